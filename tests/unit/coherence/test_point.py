"""Which of two points is the later one."""

import datetime

from tidstorage.coherence.point import Point

NOON = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
LATER = NOON + datetime.timedelta(seconds=6)


def test_what_has_more_follows_whatever_the_clock_says():
    before = Point({"a": 1, "b": 1}, LATER, "stamps")
    after = Point({"a": 2, "b": 1}, NOON, "stamps")
    assert after.follows(before) and not before.follows(after)


def test_of_two_that_each_have_more_the_time_decides():
    one = Point({"a": 2, "b": 1}, NOON, "stamps")
    other = Point({"a": 1, "b": 2}, LATER, "stamps")
    assert other.follows(one) and not one.follows(other)
    assert Point({"a": 1, "b": 2}, NOON, "stamps", 2).follows(other)
