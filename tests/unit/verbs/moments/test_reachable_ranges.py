"""What sets alone tell of the time between their points."""

import datetime
from types import SimpleNamespace

import pytest

from tidstorage.coherence.point import Point
from tidstorage.verbs.moments import reachable_ranges, restore_sources
from tidstorage.verbs.moments.reachable_ranges import GONE, LOST, UNKNOWN, find_ranges

NO_JOURNAL = SimpleNamespace(
    series=(),
    first=lambda _timeline, _condition: None,
    measured=lambda _timeline: (),
)


def at(minutes):
    return datetime.datetime(2026, 11, 24, 10, minutes, tzinfo=datetime.UTC)


def point(minutes):
    return Point({"a": minutes}, at(minutes), "barrier")


def made(name, minutes, floor, full_copy):
    """A set whose copies begin with that full copy."""
    return SimpleNamespace(
        id=name,
        point=point(minutes),
        floor=None if floor is None else point(floor),
        unstamped={"a": 0},
        storages=[SimpleNamespace(id="a", packed=None, files=(full_copy,))],
    )


@pytest.fixture
def told(monkeypatch):
    """{(begin, end): reason} of the ranges between two sets, in minutes."""
    monkeypatch.setattr(restore_sources, "find_live_files", lambda *_arguments: [])

    def told(timeline, *copies):
        monkeypatch.setattr(
            reachable_ranges, "known_timeline", lambda _cluster: timeline
        )
        first, second = made("1", 0, None, copies[0]), made("2", 20, 10, copies[1])
        points = [first.point, second.point]
        ranges = find_ranges(None, NO_JOURNAL, [first, second], points, ())
        return {
            (found.begin.minute, found.end.minute): found.reason
            for found in ranges
            if found.begin < found.end
        }

    return told


def test_time_below_the_next_sets_floor_is_unknown(told):
    assert told(1, "f", "f") == {(0, 10): UNKNOWN, (10, 20): ""}


@pytest.mark.parametrize("timeline, reason", [(1, GONE), (2, LOST)])
def test_what_nothing_holds_is_gone_and_not_unknown(told, timeline, reason):
    """The later set begins with a copy of its own."""
    assert set(told(timeline, "f", "g").values()) == {reason}
