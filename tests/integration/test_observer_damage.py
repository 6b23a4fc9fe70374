"""What the daemon says of half commits, lost timelines and votes that were given up."""

import pytest
from daemons import journal_entries
from observed_site import Committer, entries_of
from real_processes import wait_until

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.engines.filestorage import last_tid
from tidstorage.points import journal
from tidstorage.points.beside import write_beside
from tidstorage.points.entries import Acknowledgement, Damage, Floor
from tidstorage.system.clock import now
from tidstorage.wire import protocol
from tidstorage.wire.protocol import Hello

pytestmark = pytest.mark.integration


def test_a_half_commit_is_proven_kept_and_named(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(2)
    clean = site.wait_for_all()
    site.write(0, half=["a", "d"])
    ends = site.wait_for_all()
    assert ends["a"] > clean["a"] and ends["d"] == clean["d"]
    (point,) = wait_until(
        lambda: [p for p in site.points() if p.vector == ends], "the journal"
    )[-1:]
    (half,) = point.damage
    assert half.missing == ("d",) and set(half.present) == {"a"}
    assert [p for p in site.points() if not p.damage][-1].vector == clean
    (entry,) = [
        each
        for each in journal_entries(site.daemon.journal)
        if isinstance(each, Damage)
    ]
    assert entry.half_commit == half
    # It stays named, also over a restart, until somebody accepts it.
    site.write(3)
    site.wait_for_all()
    assert site.points()[-1].damage == (half,)
    site.daemon.kill()
    site.daemon.start()
    site.write(3)
    ends = site.wait_for_all()
    assert wait_until(lambda: site.points()[-1].vector == ends, "the journal")
    assert site.points()[-1].damage == (half,)
    journal.Journal(site.daemon.journal).append(
        Acknowledgement(point.time, half.commit_id, "test")
    )
    wait_until(lambda: not site.points()[-1].damage, "it is accepted")
    site.write(3)
    site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == site.ends(), "the journal")
    assert not site.points()[-1].damage


def test_a_half_commit_of_before_the_first_start_is_named(site):
    site.describe(local=True)
    site.write(2)
    write_beside(Point(site.ends(), now(), "barrier"), site.files.values())
    site.write(0, half=["a", "d"])
    site.write(3)
    site.daemon.start()
    site.wait_for_all()
    (half,) = wait_until(lambda: site.points()[-1].damage, "the damage is named")
    assert half.missing == ("d",) and set(half.present) == {"a"}
    site.check_all_points()
    # Once somebody has accepted it, it is none wherever a daemon begins.
    site.daemon.kill()
    site.daemon.tid_log.unlink()
    site.daemon.journal.unlink()
    journal.append(site.daemon.journal, Acknowledgement(now(), half.commit_id, "test"))
    site.daemon.start()
    ends = site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == ends, "the journal")
    assert not any(isinstance(each, Damage) for each in entries_of(site))
    assert not any(each.damage for each in site.points())


def test_a_writer_from_a_lost_timeline_is_an_alarm(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(2)
    before = site.wait_for_all()
    future = tid.from_bytes(b"\x7f" + b"\0" * 7)
    odd = {"storage": "a", "participants": ["a"], "known": {"d": future}}
    commit_id = "0123456789abcdef" * 2
    peer = site.daemon.peer()
    peer.send(protocol.encode_hello(Hello("web-7", "elsewhere", 4711)))
    peer.begin(commit_id, "a")
    site.write(0, odd={**odd, "commit_id": commit_id})
    wait_until(lambda: "lost timeline" in site.daemon.log.read_text(), "the alarm")
    site.write(3)
    assert site.dump()["a"] == before["a"]
    log = site.daemon.log.read_text()
    assert log.count("CRITICAL") == 1 and "storage d" in log
    assert "web-7 (process 4711 on elsewhere) writes what it knows" in log
    (alarm,) = site.observed()["lost timeline"]
    assert alarm["process"]["name"] == "web-7" and alarm["commit"] == commit_id
    # Somebody accepts what there is; stamps made meanwhile know nothing wrong.
    floor = Point(site.ends(), site.points()[0].time, "barrier")
    journal.Journal(site.daemon.journal).append(Floor("rebase", floor))
    site.wait_for_all()
    assert site.observed()["lost timeline"] == []
    site.write(2)
    site.wait_for_all()
    site.daemon.kill()
    site.write(2)
    site.daemon.start()
    site.wait_for_all()
    # Of one that told nothing at least its commit is named.
    site.write(0, odd=odd)
    wait_until(lambda: site.observed().get("lost timeline"), "another alarm")
    site.check_times_of_points()
    assert "a process that has not told its name writes" in site.daemon.log.read_text()


@pytest.mark.parametrize("when", ["observed", "before the bootstrap"])
def test_a_server_that_takes_an_unfinished_vote_for_its_last_transaction(site, when):
    if when == "observed":
        site.daemon.start()
        site.bootstrapped()
    site.write(2)
    committer = Committer(site)
    committer.vote("a", "c")
    site.one.kill()
    committer.close()
    site.one.start()
    committer = Committer(site)
    phantom = committer.vector()["a"] - 1
    assert phantom > last_tid(site.files["a"])
    if when != "observed":
        site.daemon.start()
        site.bootstrapped()
    # Whoever commits now has seen what is in no file.
    tids = committer.commit("b", "d")
    wait_until(
        lambda: all(site.dump()[each] >= last for each, last in tids.items()),
        "nobody waits for it",
    )
    tids = committer.commit("a", "c")
    assert tids["a"] > phantom
    site.wait_for_all()
    committer.close()
    assert {point.timeline for point in site.points()} == {1}
    assert "CRITICAL" not in site.daemon.log.read_text()
