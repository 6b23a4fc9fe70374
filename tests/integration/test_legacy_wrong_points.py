"""Schedules on which the original gave a wrong or a frozen answer.

Messages and storages, in the order that did the harm; real servers, real files.
"""

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from daemons import Peer, journal_entries
from observed_site import Committer, Site
from real_processes import wait_until

from tidstorage.points.entries import Damage

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(Path(tmp_path_factory.mktemp("site")))
    # S2 starts it where a server is stopped.
    made.describe(also="resume-timeout 1\n")
    try:
        made.daemon.start()
        made.bootstrapped()
        yield made
    finally:
        made.close()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The same for all; each test starts where everything is published."""
    restart(running).close()
    running.wait_for_all()
    yield running
    for each in (running.one, running.two):
        each.signal(signal.SIGCONT)
    running.check_all_points()


@pytest.fixture
def committer(site: Site) -> Iterator[Committer]:
    made = Committer(site)
    yield made
    made.close()


@pytest.fixture
def peer(site: Site) -> Iterator[Peer]:
    made = site.daemon.peer()
    yield made
    made.close()


def restart(site: Site) -> Peer:
    """A daemon that publishes; one that answers nothing yet has nothing wrong."""
    if site.daemon.process is None:
        site.daemon.start()
    site.bootstrapped()
    return site.daemon.peer()


def never(
    peer: Peer, wrong: Callable[[Mapping[str, int]], bool], seconds: float = 1
) -> None:
    """Ask all the time; no answer is wrong."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        vector = peer.dump()
        assert not wrong(vector), vector


def covers(site: Site, tids: Mapping[str, int]) -> None:
    wait_until(
        lambda: all(site.dump()[each] >= last for each, last in tids.items()),
        f"the point covers {tids}",
    )


def test_S1_a_BEGIN_that_arrives_late(site, committer, peer):
    late = committer.vote("a", "c")
    tids = {"a": late.finish("a")}
    other = Committer(site)
    peer.write("other", **other.commit("b", "d"))
    never(peer, lambda vector: vector["a"] >= tids["a"])
    peer.begin("late", "a", "c")
    tids["c"] = late.finish("c")
    peer.commit("late", **tids)
    covers(site, tids)
    other.close()


def test_S2_a_read_dependency_between_transactions_of_one_storage_each(site, committer):
    site.daemon.kill()
    first = committer.commit("a")
    wait_until(
        lambda: committer.vector()["a"] > first["a"], "the client knows its own TID"
    )
    knowing = committer.vector()
    # What was read is not to be seen by the daemon, what was written is.
    site.one.signal(signal.SIGSTOP)
    second = committer.commit("c", vector=knowing)
    peer = restart(site)
    peer.write("second", **second)
    wait_until(lambda: site.observed()["waiting"] == 1, "it sees what was written")
    never(peer, lambda vector: vector["c"] >= second["c"])
    site.one.signal(signal.SIGCONT)
    covers(site, {**first, **second})
    peer.close()


def test_S3_overlapping_transactions_that_are_never_idle(site, peer):
    over = threading.Event()

    def load(*storages: str) -> None:
        mine = Committer(site)
        own = site.daemon.peer()
        for number in itertools.count():
            if over.is_set():
                break
            name = f"{storages} {number}"
            own.begin(name, *storages)
            voted = mine.vote(*storages)
            tids = {storages[0]: voted.finish(storages[0])}
            time.sleep(0.03)
            tids[storages[1]] = voted.finish(storages[1])
            own.commit(name, **tids)
        mine.close()

    threads = [
        threading.Thread(target=load, args=pair)
        for pair in (("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"))
    ]
    for thread in threads:
        thread.start()
    try:
        seen = set()

        def has_moved_on() -> bool:
            seen.add(tuple(sorted(peer.dump().items())))
            return len(seen) >= 10

        wait_until(has_moved_on, "ten points, while the load goes on")
        assert all(each.is_alive() for each in threads)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    site.wait_for_all()


def test_S4_a_process_that_dies_between_BEGIN_and_COMMIT(site, committer, peer):
    dying = Committer(site)
    peer.begin("dies", "a", "c")
    dying.vote("a", "c")
    dying.close()
    for number in range(3):
        tids = committer.commit("a", "c")
        peer.begin(f"lives {number}", "a", "c")
        peer.commit(f"lives {number}", **tids)
    covers(site, tids)


def test_S5_a_COMMIT_that_lacks_a_begun_storage(site, committer, peer):
    peer.begin("lacks", "a", "c")
    voted = committer.vote("a", "c")
    tids = {"a": voted.finish("a")}
    peer.commit("lacks", **tids)
    never(peer, lambda vector: vector["a"] >= tids["a"])
    tids["c"] = voted.finish("c")
    covers(site, tids)


def test_S6_messages_lost_while_the_daemon_was_away(site, committer):
    peer = site.daemon.peer()
    peer.begin("half told", "a", "c")
    voted = committer.vote("a", "c")
    tids = {"a": voted.finish("a")}
    site.daemon.kill()
    peer = restart(site)
    wait_until(lambda: site.observed()["waiting"] == 1, "it sees the one part")
    never(peer, lambda vector: vector["a"] >= tids["a"])
    tids["c"] = voted.finish("c")
    covers(site, tids)
    peer.close()
    # Neither its COMMIT nor anything of this one was ever told.
    site.daemon.kill()
    tids = committer.commit("b", "d")
    restart(site).close()
    covers(site, tids)


def test_S7_a_COMMIT_without_BEGIN(site, committer, peer):
    before = site.dump()
    peer.commit("never begun", a=before["a"] + (1 << 40), c=1)
    assert {**peer.dump()} == {**before}
    tids = committer.commit("a", "c")
    peer.commit("never begun either", **tids)
    covers(site, tids)
    assert site.dump()["a"] == tids["a"]


def test_S8_a_second_finish_that_fails_and_is_reported_as_ABORT(site, committer, peer):
    peer.begin("half", "a", "c")
    voted = committer.vote("a", "c")
    half = {"a": voted.finish("a")}
    never(peer, lambda vector: vector["a"] >= half["a"])
    voted.abort("c")
    peer.abort("half")
    covers(site, half)
    (found,) = wait_until(
        lambda: [
            entry.half_commit
            for entry in journal_entries(site.daemon.journal)
            if isinstance(entry, Damage)
            and entry.half_commit.commit_id == voted.commit_id
        ],
        "the damage is written down",
    )
    assert found.present == half and found.missing == ("c",)
    tids = committer.commit("a", "c")
    covers(site, tids)
    assert (
        found
        in wait_until(
            lambda: [p for p in site.points() if p.vector["a"] >= tids["a"]], "journal"
        )[-1].damage
    )


def test_S9_storages_coupled_once_and_never_apart_again(site, committer, peer):
    all_four = committer.commit("a", "b", "c", "d")
    peer.write("all four", **all_four)
    covers(site, all_four)
    # From now on there is always a transaction open on one of them.
    holding = Committer(site)
    peer.begin("open", "a")
    open_one = holding.vote("a")
    for number in range(3):
        for each in ("b", "c", "d"):
            tids = committer.commit(each)
            peer.write(f"{each} {number}", **tids)
            covers(site, tids)
    covers(site, {"a": open_one.finish("a")})
    holding.close()
