"""Where a set is cut for a moment, by the points around it."""

import datetime
from types import SimpleNamespace

import pytest

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point, Skew
from tidstorage.errors import NotReachable
from tidstorage.points import published
from tidstorage.verbs.moments.goal import find_set_for_moment
from tidstorage.verbs.moments.known import KnownPoints

NOON = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
CLUSTER = SimpleNamespace(present_ids=dict)


def at(seconds):
    return NOON + datetime.timedelta(seconds=seconds)


def last(seconds):
    return tid.last_at(at(seconds))


def point(seconds, complete=None, skew=None, held=None):
    """By default a barrier of a server whose clock is right."""
    return Point(
        {"a": last(seconds if held is None else held)},
        at(seconds),
        "barrier",
        complete_until=at(seconds if complete is None else complete),
        skew={} if skew is None else {"a": Skew(*skew)},
    )


def find(tmp_path, moment, *points):
    """The set and the goal, each point being one of a set."""
    sets = [
        SimpleNamespace(
            manifest=SimpleNamespace(
                id=number,
                point=known,
                storages=[SimpleNamespace(id="a", packed=0)],
            ),
            is_whole=True,
            is_unknown=False,
        )
        for number, known in enumerate(points)
    ]
    known = KnownPoints(CLUSTER, published.read(tmp_path / "none", 0), points, ())
    manifest, goal = find_set_for_moment(known, sets[::-1], at(moment), None)
    return manifest.id, goal


def test_a_set_reaches_as_far_as_it_is_complete(tmp_path):
    points = point(0), point(10, complete=6), point(20)
    assert find(tmp_path, 5, *points)[0] == 1
    set_id, goal = find(tmp_path, 7, *points)
    # Of what is in the second one nobody knows whether it was there by then.
    assert set_id == 2 and goal.floor == points[0]
    assert find(tmp_path, 10, *points)[1].floor == points[1]
    with pytest.raises(NotReachable, match="no set reaches it yet"):
        find(tmp_path, 7, *points[:2])


def test_what_the_next_point_has_not_was_not_acknowledged(tmp_path):
    """A TID far too early, of a clock that nobody measured."""
    points = point(0, held=-60), point(10, held=-50), point(20, held=-40)
    set_id, goal = find(tmp_path, 5, *points)
    assert set_id == 1
    given = {"a": [last(-55), last(-45)]}
    assert goal.bounds(given) == {"a": last(-50)}
    # At a barrier itself it is just that.
    goal = find(tmp_path, 10, *points)[1]
    assert goal.bounds({"a": [last(-45)]}) == {"a": last(-50)}


def test_what_was_there_before_is_kept_whatever_its_tid(tmp_path):
    points = point(0, held=60), point(10, held=70)
    assert find(tmp_path, 5, *points)[1].bounds({"a": []}) == {"a": last(60)}


def test_a_clock_counts_no_more_than_what_is_between_two_points(tmp_path):
    wrong = (-8.0, 8.0)
    points = point(0, skew=wrong), point(2), point(4), point(60, skew=wrong)
    assert 2 <= find(tmp_path, 3, *points)[1].doubt < 3
    points = point(0, skew=wrong), point(60, skew=wrong)
    assert find(tmp_path, 3, *points)[1].doubt == 16


def test_former_versions_tell_no_more_than_their_time(tmp_path):
    old = [
        Point({"a": last(seconds)}, at(seconds), "barrier") for seconds in (0, 10, 20)
    ]
    set_id, goal = find(tmp_path, 5, *old)
    assert (set_id, goal.floor, goal.ceiling) == (1, old[0], None)
    assert goal.bounds({"a": [last(4), last(6)]}) == {"a": last(5)}
