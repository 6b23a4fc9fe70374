"""What goes into the journal, and what a daemon that is killed goes on from."""

import asyncio
import datetime

import pytest
from daemons import journal_entries

from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.daemon import resuming
from tidstorage.daemon.recorder import Recorder
from tidstorage.daemon.settings import ObservedStorage, Settings
from tidstorage.points import tid_log
from tidstorage.points.entries import Damage, Floor, Published, Timeline
from tidstorage.points.journal import Journal
from tidstorage.system.clock import now

HALF = HalfCommit(b"0123456789abcdef", {"a": 5}, ("b",))
STORAGES = tuple(ObservedStorage(each, ("localhost", 1), each) for each in "ab")


def at(last: int, **options) -> Point:
    return Point({"a": last, "b": last}, now(), "stamps", **options)


@pytest.fixture
def settings(tmp_path):
    return Settings(
        tid_log=tmp_path / "tidlog", journal=tmp_path / "journal", storages=STORAGES
    )


def recorder(settings, journal_period=60.0) -> Recorder:
    return Recorder(
        tid_log.Writer(settings.tid_log), Journal(settings.journal), journal_period
    )


def record(recorder, *what) -> None:
    async def work() -> None:
        for each in what:
            if isinstance(each, Point):
                recorder.publish(each)
            else:
                recorder.note(each)
            assert await recorder.flush()

    asyncio.run(work())


def journaled(settings) -> list[object]:
    return [
        entry.point.vector["a"] if isinstance(entry, Published) else type(entry)
        for entry in journal_entries(settings.journal)
    ]


def test_of_points_that_are_alike_the_journal_has_one(settings):
    record(recorder(settings), *(at(last) for last in range(1, 9)))
    assert journaled(settings) == [1]
    assert len(list(tid_log.read_all(settings.tid_log))) == 8


def test_now_and_then_the_journal_has_another(settings):
    record(recorder(settings, 0.0), at(1), at(2))
    assert journaled(settings) == [1, 2]


def test_without_a_tid_log_the_journal_has_all(settings):
    record(Recorder(None, Journal(settings.journal), 60.0), at(1), at(2))
    assert journaled(settings) == [1, 2]


def test_what_is_not_alike_is_in_the_journal_at_once(settings):
    damaged = {"damage": (HALF,)}
    record(
        recorder(settings),
        *(at(1), at(2), at(3, verified=False), at(4, verified=False)),
        *(at(5), at(6, **damaged), at(7, **damaged), at(8, timeline=2), at(9)),
    )
    assert journaled(settings) == [1, 3, 5, 6, 8, 9]


def test_other_entries_follow_the_point_that_was_in_force(settings):
    record(
        recorder(settings),
        *(at(1), at(2), Damage(now(), HALF, "proof"), at(3)),
        *(Timeline(now(), 2, {}, "restored"), at(1, timeline=2)),
    )
    assert journaled(settings) == [1, 2, Damage, 3, Timeline, 1]


def test_a_point_does_not_get_behind_the_timeline_that_ended_it(settings):
    async def work() -> None:
        going_on = recorder(settings)
        going_on.publish(at(1))
        await going_on.flush()
        # Neither of the two is on disk yet.
        going_on.publish(at(2))
        going_on.note(Damage(now(), HALF, "proof"))
        going_on.note(Timeline(now(), 2, {}, "restored"))
        await going_on.flush()
        going_on.set_aside(2)
        going_on.publish(at(1, timeline=2))
        await going_on.flush()

    asyncio.run(work())
    assert journaled(settings) == [1, 2, Damage, Timeline, 1]


def test_the_last_point_is_in_the_journal_at_the_end(settings):
    async def work() -> None:
        ending = recorder(settings)
        for last in (1, 2, 3):
            ending.publish(at(last))
            await ending.flush()
        await ending.close()

    asyncio.run(work())
    assert journaled(settings) == [1, 3]


def test_a_journal_that_was_moved_away_begins_with_a_point(settings):
    async def work() -> None:
        going_on = recorder(settings)
        going_on.publish(at(1))
        await going_on.flush()
        settings.journal.rename(settings.journal.with_name("moved"))
        await going_on.reopen(at(2))
        going_on.publish(at(3))
        await going_on.flush()

    asyncio.run(work())
    assert journaled(settings) == [3]


def test_a_daemon_that_was_killed_goes_on_from_the_newest_vector(settings):
    points = [at(last, verified=False, damage=(HALF,)) for last in (1, 2, 3)]
    # Lines of the TID log have hundredths of seconds.
    later = [each.time + datetime.timedelta(seconds=1) for each in points]
    killed = tid_log.Writer(settings.tid_log)
    Journal(settings.journal).append(Published(points[0]))
    for each, time in zip(points, later, strict=True):
        killed.write(each.vector, time.timestamp())
    former = resuming.read_last_run(settings).point
    assert former.vector == {"a": 3, "b": 3} and former.damage == (HALF,)
    assert not former.verified and former.time > points[0].time


def test_a_tid_log_of_another_timeline_moves_nothing(settings):
    log = tid_log.Writer(settings.tid_log)
    log.write({"a": 9, "b": 9}, now().timestamp() - 100)
    Journal(settings.journal).append(Published(at(5, timeline=2)))
    assert resuming.read_last_run(settings).point.vector == {"a": 5, "b": 5}
    log.write({"a": 9, "b": 4}, now().timestamp() + 100)
    assert resuming.read_last_run(settings).point.vector == {"a": 5, "b": 5}


def test_a_tid_log_from_before_a_floor_moves_nothing(settings):
    log = tid_log.Writer(settings.tid_log)
    Journal(settings.journal).append(
        Published(at(5)),
        Timeline(now(), 2, {}, "restored"),
        Floor("x", at(3, timeline=2)),
    )
    log.write({"a": 9, "b": 9}, now().timestamp() + 100)
    assert resuming.read_last_run(settings).point.vector == {"a": 3, "b": 3}
