"""A daemon over servers that were killed amid a vote: plain runzeo, on local files.

Such a server says the TID of a vote that no file holds, until it is started once more.
"""

import contextlib
from collections.abc import Iterator

import pytest
from daemons import journal_entries
from observed_site import Committer, Site
from real_processes import wait_until
from ZODB.Connection import TransactionMetaData

from tidstorage.engines.filestorage import last_tid, read_abandoned_votes
from tidstorage.points.entries import Timeline

pytestmark = pytest.mark.integration


@pytest.fixture
def local(site: Site) -> Iterator[Site]:
    """Storages a and b on server one, c and d on server two; their files are here."""
    site.describe(local=True)
    site.write(6)
    yield site


def kill_amid_vote(site: Site, *, data: bool) -> None:
    """Server two, while somebody votes on d; it is started again."""
    writer = Committer(site)
    client = writer.clients["d"]
    transaction = TransactionMetaData()
    client.tpc_begin(transaction)
    if data:
        client.store(client.new_oid(), b"\0" * 8, b"never finished", "", transaction)
    client.tpc_vote(transaction)
    site.two.kill()
    with contextlib.suppress(Exception):
        writer.close()
    site.two.start()


def restart(site: Site) -> None:
    site.two.stop()
    site.two.start()


def write_elsewhere(site: Site, count: int) -> dict[str, int]:
    """By a process that sees how d ends, and does not write it."""
    writer = Committer(site)
    for _ in range(count):
        writer.commit("a", "b")
    writer.close()
    return site.ends()


def assert_covered(site: Site, ends: dict[str, int]) -> None:
    """The point covers all that was written; TIDs of votes are above the ends."""

    def is_covered() -> bool:
        point = site.dump()
        return all(point[storage] >= last for storage, last in ends.items())

    wait_until(is_covered, f"the point covers {ends}")
    assert not site.observed()["lost timeline"]
    entries = journal_entries(site.daemon.journal)
    assert not [entry for entry in entries if isinstance(entry, Timeline)]
    assert {point.timeline for point in site.points()} == {1}


@pytest.mark.parametrize("data", [True, False], ids=["full", "empty"])
def test_a_vote_that_is_forgotten_is_no_restore(local: Site, data: bool) -> None:
    local.daemon.start()
    local.wait_for_all()
    kill_amid_vote(local, data=data)
    assert_covered(local, write_elsewhere(local, 3))
    restart(local)
    assert_covered(local, write_elsewhere(local, 3))
    votes = [vote.tid for vote in read_abandoned_votes(local.files["d"])]
    assert votes and max(votes) > last_tid(local.files["d"])


@pytest.mark.parametrize("data", [True, False], ids=["full", "empty"])
def test_a_daemon_that_begins_with_such_a_vote_survives_its_end(
    local: Site, data: bool
) -> None:
    """Its first point, by a barrier, has the TID of the vote."""
    kill_amid_vote(local, data=data)
    local.daemon.start()
    local.bootstrapped()
    assert local.dump()["d"] > last_tid(local.files["d"])
    assert_covered(local, write_elsewhere(local, 3))
    restart(local)
    assert_covered(local, write_elsewhere(local, 3))


@pytest.mark.parametrize("data", [True, False], ids=["full", "empty"])
def test_a_daemon_that_was_away_when_the_server_forgot_goes_on(
    local: Site, data: bool
) -> None:
    local.daemon.start()
    local.wait_for_all()
    kill_amid_vote(local, data=data)
    assert_covered(local, write_elsewhere(local, 3))
    local.daemon.kill()
    restart(local)
    ends = write_elsewhere(local, 3)
    local.daemon.start()
    assert_covered(local, ends)


def test_a_restore_is_noticed_all_the_same(local: Site) -> None:
    """Records that were seen are gone: that is no vote."""
    earlier = local.files["d"].read_bytes()
    local.daemon.start()
    local.write(6, group=["c", "d"])
    local.wait_for_all()
    local.two.stop()
    local.files["d"].write_bytes(earlier)
    local.files["d"].with_name("d.fs.index").unlink(missing_ok=True)
    local.two.start()
    wait_until(
        lambda: [
            entry
            for entry in journal_entries(local.daemon.journal)
            if isinstance(entry, Timeline)
        ],
        "a new timeline",
    )


def test_a_vote_that_nobody_saw_is_sealed_and_no_alarm(local: Site) -> None:
    """The daemon is away from the kill until the server has forgotten it."""
    local.daemon.start()
    local.wait_for_all()
    local.daemon.kill()
    kill_amid_vote(local, data=False)
    late = Committer(local)
    restart(local)
    before = last_tid(local.files["d"])
    vector = late.vector()
    assert vector["d"] > before + 1
    for _ in range(3):
        late.commit("a", "b", vector={**late.vector(), "d": vector["d"]})
    ends = local.ends()
    local.daemon.start()
    assert_covered(local, ends)
    late.close()
    assert last_tid(local.files["d"]) > before
