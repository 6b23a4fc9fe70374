"""As of a moment: what was acknowledged by then, whatever the servers' clocks say.

Moments, and the ledger that judges, are by the clock of this machine; that of a server,
or of whoever makes backups, is wrong.
"""

import argparse
import datetime
import json
import os

import pytest
from daemons import DaemonProcess, journal_entries
from real_processes import wait_until
from wrong_clocks import Ledger, shifted

from tidstorage.coherence import tid
from tidstorage.commands import points, restore
from tidstorage.engines import filestorage
from tidstorage.errors import BarrierFailed, NotReachable
from tidstorage.points.entries import Published
from tidstorage.system import clock
from tidstorage.verbs.backup import copying, set_point
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.moments.listed_points import list_points_and_ranges
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere

pytestmark = pytest.mark.integration
SIX = datetime.timedelta(seconds=6)


@pytest.fixture
def ledger(small):
    return Ledger(small.addresses)


def restart(small, *servers, offset):
    for server in servers:
        server.stop()
        server.environment = shifted(offset)
        server.start()


def judge(small, ledger, tmp_path, moment):
    """(what is wrong in what comes back, the outcome of the restore)."""
    into = tmp_path / f"as-of-{moment:%H%M%S.%f}"
    outcome = restore_elsewhere(small.cluster(), Request(moment=moment), into)
    return ledger.wrong(into, moment), outcome


def moments_between(first, last, count=5):
    step = (last - first) / (count + 1)
    return [first + step * number for number in range(1, count + 1)]


@pytest.mark.parametrize("slow", ["alpha", "both"])
def test_a_server_that_is_six_seconds_slow(small, ledger, tmp_path, slow):
    servers = small.servers if slow == "both" else [small.alpha]
    restart(small, *servers, offset="-6s")
    cluster = small.cluster()
    with ledger.writing():
        first = back_up(cluster).point
        begin = ledger.acknowledged_after(first.time).acknowledged
        end = ledger.acknowledged_after(begin + SIX / 2).acknowledged
        last = back_up(cluster).point
        ledger.acknowledged_after(last.time)
    assert first.complete == first.time
    for storage in small.alpha.storages:
        assert -6.5 < first.skew[storage].least <= first.skew[storage].most < -5.5
    for moment in (*moments_between(begin, end), first.time, last.time):
        wrong, outcome = judge(small, ledger, tmp_path, moment)
        assert wrong == {}
        # Where all of them differ from us, it may as well be ours that is wrong.
        assert (outcome.goal.doubt > 5) == (slow == "both")


def test_how_wide_a_moment_is_is_told(small, ledger, tmp_path, capsys):
    restart(small, *small.servers, offset="-6s")
    cluster = small.cluster()
    with ledger.writing():
        first, last = back_up(cluster).point, back_up(cluster).point
    moment = (first.time + (last.time - first.time) / 2).isoformat()
    (widest, *_) = list_points_and_ranges(cluster).ranges
    assert 5 < widest.doubt < 7
    parser = argparse.ArgumentParser()
    points.add_arguments(parser)
    assert points.run(parser.parse_args(()), cluster) == 0
    assert capsys.readouterr().out.count(" 6.0 s") == 3
    parser = argparse.ArgumentParser()
    restore.add_arguments(parser)
    arguments = ("--dry-run", "--into", str(tmp_path / "into"), "--to", moment)
    assert restore.run(parser.parse_args(arguments), cluster) == 0
    assert "how wide that is: up to 6.0 s" in capsys.readouterr().out
    assert restore.run(parser.parse_args((*arguments, "--json")), cluster) == 0
    assert 5 < json.loads(capsys.readouterr().out)["doubt"] < 7


def test_one_that_was_acknowledged_just_before(small, ledger, tmp_path):
    cluster = small.cluster()
    with ledger.writing():
        back_up(cluster)
        last = back_up(cluster).point
        late = [ledger.acknowledged_after(last.time)]
        for _ in range(3):
            late.append(ledger.acknowledged_after(late[-1].acknowledged))
        back_up(cluster)
    for told in late:
        for microseconds in (0, 1000, 4000):
            moment = told.acknowledged + datetime.timedelta(microseconds=microseconds)
            assert judge(small, ledger, tmp_path, moment)[0] == {}


def test_what_the_point_was_released_for_is_not_in_it(small, ledger, tmp_path):
    """Its time is one at which all stood still, not one after the next commit."""
    with ledger.writing():
        point = back_up(small.cluster()).point
        told = ledger.acknowledged_after(point.time)
    with pytest.raises(NotReachable, match="no set reaches it yet"):
        judge(small, ledger, tmp_path, told.acknowledged)
    assert judge(small, ledger, tmp_path, point.time)[0] == {}


def test_a_server_whose_clock_is_set_back(small, ledger, tmp_path):
    """The clock of the other one tells what of its records came too late."""
    offset = tmp_path / "offset"
    offset.write_text("+0s\n")
    restart(small, small.alpha, offset=offset)
    cluster = small.cluster()
    with ledger.writing():
        first = back_up(cluster).point
        before = ledger.acknowledged_after(first.time + SIX / 6).acknowledged
        offset.write_text("-6s\n")
        set_back = clock.now()
        after = ledger.acknowledged_after(set_back + SIX * 1.5).acknowledged
        back_up(cluster)
    moments = [before, *moments_between(set_back, after, 6)]
    for moment in moments:
        wrong, outcome = judge(small, ledger, tmp_path, moment)
        assert wrong == {}
        assert outcome.goal.clocks.doubt > 5


def test_a_clock_that_is_set_back_shows_in_the_records(small, ledger, tmp_path):
    """Nobody else tells, but for the time in which the server waits for its TIDs."""
    offset = tmp_path / "offset"
    offset.write_text("+0s\n")
    restart(small, small.alpha, offset=offset)
    cluster = small.cluster()
    with ledger.writing("root"):
        first = back_up(cluster).point
        before = ledger.acknowledged_after(first.time + SIX / 6).acknowledged
        # What waits for the clock has no later TID than what came just before.
        ledger.acknowledged_after(before + SIX / 60)
        offset.write_text("-6s\n")
        set_back = clock.now()
        after = ledger.acknowledged_after(set_back + SIX * 1.3).acknowledged
        later = ledger.acknowledged_after(after + SIX / 6).acknowledged
        back_up(cluster)
    for moment in (before, after, *moments_between(after, later, 2)):
        assert judge(small, ledger, tmp_path, moment)[0] == {}
    within = moments_between(set_back, set_back + SIX, 1)[0]
    wrong, outcome = judge(small, ledger, tmp_path, within)
    # Nothing that was acknowledged is lost, and how wide that is is told.
    assert set(wrong) <= {"too late"} and outcome.goal.doubt > 5


@pytest.mark.parametrize("offset", [-6, 6])
def test_a_backup_whose_own_clock_was_wrong(
    small, ledger, tmp_path, monkeypatch, offset
):
    cluster = small.cluster()
    with ledger.writing():
        first = back_up(cluster).point
        begin = ledger.acknowledged_after(first.time).acknowledged
        # Else it would be of before the first one, and no backup be made.
        end = ledger.acknowledged_after(begin + SIX * 1.3).acknowledged
        with monkeypatch.context() as patched:
            for name, value in shifted(f"{offset:+}s").items():
                patched.setenv(name, value)
            now = clock.now
            change = datetime.timedelta(seconds=offset)
            patched.setattr(clock, "now", lambda: now() + change)
            wrong_one = back_up(cluster).point
        truth = clock.now()
        ledger.acknowledged_after(truth + SIX / 6)
        last = back_up(cluster).point
    assert abs((wrong_one.time - change - truth).total_seconds()) < 5
    said = moments_between(truth - SIX, truth, 3) + moments_between(begin, end, 2)
    for moment in (*said, wrong_one.time - change, last.time):
        if moment <= clock.now():
            wrong, outcome = judge(small, ledger, tmp_path, moment)
            assert wrong == {}
            # The other one is later, by its time, than the one that follows it.
            assert outcome.goal.doubt > 5 or offset > 0 or moment == last.time


def test_a_set_for_which_no_barrier_was_had(small, ledger, tmp_path, monkeypatch):
    """Its files are copied one after the other while one of them is written to."""
    cluster = small.cluster()

    def give_up(*_arguments):
        raise BarrierFailed("somebody holds a vote")

    copy_all = copying.copy_all

    def copy_late(*arguments):
        begin = clock.now()
        ledger.acknowledged_after(begin)
        copies = copy_all(*arguments)
        ledger.acknowledged_after(clock.now())
        return copies

    with ledger.writing("catalog"):
        back_up(cluster)
        before = clock.now()
        with monkeypatch.context() as patched:
            patched.setattr(set_point.barrier, "take_instant", give_up)
            patched.setattr(copying, "copy_all", copy_late)
            point = back_up(cluster).point
        ledger.acknowledged_after(clock.now())
        back_up(cluster)
    assert point.source == "stamps"
    assert before <= point.complete_until < point.time
    newest = max(tid.to_time(last) for last in point.vector.values())
    assert newest <= point.time
    moments = moments_between(before, point.time)
    for moment in (point.complete_until, *moments, point.time):
        assert judge(small, ledger, tmp_path, moment)[0] == {}


@pytest.mark.parametrize("offset", ["-6s", "+6s"])
def test_a_daemon_whose_clock_is_wrong(small, ledger, tmp_path, offset):
    """Its points lie amid those of the sets, and are not of the times that they say."""
    configuration = tmp_path / "daemon.conf"
    configuration.write_text(
        "".join(
            f"<storage {storage}>\nserver {host}:{port}\n</storage>\n"
            for storage, (host, port) in small.addresses.items()
        )
    )
    cluster = small.cluster()
    daemon = DaemonProcess(small.folder, "-c", configuration)
    assert daemon.journal == cluster.daemon.journal
    with ledger.writing():
        first = back_up(cluster).point
        daemon.environment = shifted(offset)
        daemon.start()
        try:
            begin = ledger.acknowledged_after(first.time).acknowledged
            published = wait_until(
                lambda: len(points := stamped(daemon)) > 20 and points, "points"
            )
            end = ledger.acknowledged_after(begin + SIX * 1.5).acknowledged
            last = back_up(cluster).point
            ledger.acknowledged_after(last.time)
        finally:
            daemon.stop()
    assert all(point.complete_until <= point.time for point in published)
    assert all(point.skew for point in published[3:])
    for moment in moments_between(begin, end, 8):
        assert judge(small, ledger, tmp_path, moment)[0] == {}


def stamped(daemon):
    return [
        entry.point
        for entry in journal_entries(daemon.journal)
        if isinstance(entry, Published) and entry.point.source == "stamps"
    ]


def test_a_skew_is_measured_as_long_as_the_barrier_takes(small):
    restart(small, small.beta, offset="+6s")
    skew = back_up(small.cluster()).point.skew
    (documents,) = small.beta.storages
    assert skew[documents].least <= 6 <= skew[documents].most + 0.01
    assert not skew["root"].is_notable and skew["root"].least <= skew["root"].most
    assert filestorage.last_tid(small.beta.data_file(documents)) == 0
    assert "LD_PRELOAD" not in os.environ
