"""Packs that the daemon did not see, idle ends, and what a server keeps open for it."""

import contextlib
import signal
import time
from pathlib import Path

import pytest
import ZEO
from observed_site import Committer, Site, entries_of
from real_processes import PATIENCE, wait_until
from ZODB.Connection import TransactionMetaData

from tidstorage.coherence import tid
from tidstorage.daemon import storage_observer
from tidstorage.daemon.fetching import fetch
from tidstorage.daemon.settings import ObservedStorage
from tidstorage.daemon.storage_observer import Callbacks, StorageObserver
from tidstorage.engines.filestorage import last_tid
from tidstorage.points.beside import write_beside
from tidstorage.points.entries import Damage, Timeline
from tidstorage.zeo.client import ZeoClient

pytestmark = pytest.mark.integration


def pack(server, storage):
    client = ZEO.client(server.address, storage=storage, wait_timeout=PATIENCE)
    with contextlib.closing(client):
        client.pack(time.time() + 1, wait=True)


def vote(server, storage):
    """(client, transaction) of a vote without data, which is held."""
    client = ZEO.client(server.address, storage=storage, wait_timeout=PATIENCE)
    voted = TransactionMetaData()
    client.tpc_begin(voted)
    client.tpc_vote(voted)
    return client, voted


def abandon_vote(server, storage):
    """The server is killed amid it; its next run names its TID as the last one."""
    client, _ = vote(server, storage)
    server.kill()
    client.close()
    server.start()


def no_damage(site):
    return not any(isinstance(each, Damage | Timeline) for each in entries_of(site))


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("packed", ["a", "ab"])
def test_what_a_pack_took_while_the_daemon_was_away_is_not_torn(
    site: Site, packed, local
):
    """Whole transactions over a and b; of these the pack leaves the last one."""
    site.describe(local=local)
    site.daemon.start()
    site.write(3, group=["a", "b"])
    site.wait_for_all()
    site.daemon.kill()
    site.write(6, group=["a", "b"])
    for storage in packed:
        pack(site.one, storage)
    site.write(3, group=["b", "c"])
    site.daemon.start()
    site.wait_for_all()
    assert no_damage(site)
    assert not site.points()[-1].damage
    # And what is torn from here on is seen.
    site.write(1, half=["a", "b"], group=["a", "b"])
    wait_until(lambda: not no_damage(site), "the half commit is found")
    assert len(site.points()[-1].damage) == 1


def test_points_over_what_a_pack_may_have_torn_are_unverified(site: Site):
    # Databases are created by transactions without a stamp.
    site.write(3, group=["a", "b"])
    site.daemon.start()
    site.bootstrapped()
    site.write(3, group=["a", "b"])
    site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == site.ends(), "the journal")
    assert site.points()[-1].verified
    site.daemon.kill()
    site.write(4, group=["a", "b"])
    pack(site.one, "a")
    site.daemon.start()
    site.wait_for_all()
    log = site.daemon.log.read_text()
    assert "may have been packed away before it was seen" in log
    assert "may be whole or not" in log
    wait_until(lambda: site.points()[-1].vector == site.ends(), "the journal")
    assert not site.points()[-1].verified


def test_the_daemon_goes_on_from_the_point_that_a_pack_has_left(site: Site):
    """Of a pack of ours: it stays below the point beside the files."""
    site.describe(local=True)
    site.daemon.start()
    site.write(3, group=["a", "b"])
    site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == site.ends(), "the journal")
    site.daemon.kill()
    site.write(6, group=["a", "b"])
    former = site.points()[-1]
    above = type(former)(site.ends(), former.time, "barrier")
    write_beside(above, site.files.values())
    pack(site.one, "a")
    site.write(2, group=["a", "b"])
    site.daemon.start()
    site.wait_for_all()
    assert no_damage(site)
    assert "may be whole or not" not in site.daemon.log.read_text()
    assert any(each.vector == above.vector for each in site.points())


def test_a_daemon_that_was_behind_goes_on_from_there_too(site: Site):
    """It ran, and saw nothing: what the pack took is covered by the point it left."""
    site.write(2, group=["a", "b"])
    site.describe(local=True)
    site.daemon.start()
    site.bootstrapped()
    site.write(3, group=["a", "b"])
    site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == site.ends(), "the journal")
    former = site.points()[-1]
    site.daemon.signal(signal.SIGSTOP)
    site.write(6, group=["a", "b"])
    above = type(former)(site.ends(), former.time, "barrier")
    # It stays below the last one, of which the record is left as it was.
    packer = ZEO.client(site.one.address, storage="a", wait_timeout=PATIENCE)
    with contextlib.closing(packer):
        below = tid.to_time(above.vector["a"]).timestamp() - 0.001
        packer.pack(below, wait=True)
    write_beside(above, site.files.values())
    site.write(2, group=["a", "b"])
    site.daemon.signal(signal.SIGCONT)
    site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == site.ends(), "the journal")
    assert no_damage(site) and site.points()[-1].verified
    assert "may be whole or not" not in site.daemon.log.read_text()
    site.check_times_of_points()


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("last", ["an object", "nothing"])
def test_an_idle_packed_storage_holds_up_no_point(site: Site, local, last):
    """Its server names a vote that it gave up, and shows nothing behind its pack."""
    site.describe(local=local)
    site.daemon.start()
    site.write(3)
    site.wait_for_all()
    if last == "nothing":
        client, voted = vote(site.two, "d")
        gone = tid.from_bytes(client.tpc_finish(voted))
        client.close()
        wait_until(lambda: site.dump()["d"] == gone, "it is seen")
    pack(site.two, "d")
    abandon_vote(site.two, "d")
    # What is committed now has seen that vote.
    committer = Committer(site)
    try:
        written = committer.commit("a", "c")
    finally:
        committer.close()
    wait_until(
        lambda: {s: site.dump()[s] for s in written} == written, "the point moves on"
    )
    assert no_damage(site)


def open_files(server):
    """How many descriptors the server has."""
    return len([*Path(f"/proc/{server.process.pid}/fd").iterdir()])


def test_many_looks_leave_nothing_open_at_the_server(site: Site):
    """By iterations to the end, and by those that are left before it."""
    site.write(20, group=["a"])
    pack(site.one, "a")
    last = last_tid(site.files["a"])
    client = ZeoClient(site.one.address, "a", label="test", connect_seconds=PATIENCE)
    with contextlib.closing(client):
        fetch(client, last, anchor=last, expected=1, limit=9, aliases={})
        before = open_files(site.one)
        for after in (last, 1):
            for _ in range(200):
                fetch(client, after, anchor=None, expected=1, limit=1, aliases={})
        client.last_tid()
        assert open_files(site.one) <= before + 1


def test_a_client_that_left_many_iterations_is_replaced(site: Site, monkeypatch):
    """The server forgets what it kept for it, and nothing is missed."""
    made = []

    class Client(ZeoClient):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

        def newest(self, count):
            self.iterations_left += 1
            return super().newest(count)

    monkeypatch.setattr(storage_observer, "ZeoClient", Client)
    monkeypatch.setattr(storage_observer, "_MOST_ITERATIONS_LEFT", 2)
    seen: list[int] = []
    observer = StorageObserver(
        ObservedStorage("a", site.one.address, "a"),
        {},
        Callbacks(
            confirmed=lambda storage: None,
            records=lambda storage, records: seen.extend(each.tid for each in records),
            complete=lambda storage, moment: None,
            packed=lambda storage, last: None,
            ended=lambda storage, last: None,
            probe=lambda answer: None,
            history_changed=lambda storage, why: None,
            room=lambda storage: 1000,
        ),
        0,
        is_record=False,
    )
    observer.start()
    try:
        committer = Committer(site)
        written = []
        for _ in range(4):
            written.append(committer.commit("a")["a"])
            wait_until(lambda: seen[-1:] == written[-1:], "it is seen")
        committer.close()
    finally:
        observer.close()
    assert seen == written and len(made) > 1
