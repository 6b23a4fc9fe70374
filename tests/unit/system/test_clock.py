"""Times as they are typed and shown, over both changes of the clock."""

import datetime
import time

import pytest

from tidstorage.errors import WrongTime
from tidstorage.system import clock


@pytest.fixture(autouse=True)
def berlin():
    clock.use("Europe/Berlin")
    yield
    clock.use(None)


def utc(*numbers):
    return datetime.datetime(*numbers, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2026-11-22 14:05", utc(2026, 11, 22, 13, 5)),
        ("2026-11-22T14:05:30.5", utc(2026, 11, 22, 13, 5, 30, 500000)),
        ("2026-07-22 14:05", utc(2026, 7, 22, 12, 5)),
        ("2026-11-22 14:05+00:00", utc(2026, 11, 22, 14, 5)),
        ("2026-11-22T14:05:00Z", utc(2026, 11, 22, 14, 5)),
        ("2026-10-25T02:30:00+02:00", utc(2026, 10, 25, 0, 30)),
        ("2026-10-25T02:30:00+01:00", utc(2026, 10, 25, 1, 30)),
    ],
)
def test_times_without_an_offset_are_local(text, expected):
    found = clock.parse(text)
    assert found == expected and found.utcoffset() == datetime.timedelta(0)


def test_a_time_that_was_twice_has_to_be_told_apart():
    with pytest.raises(WrongTime, match="was twice") as caught:
        clock.parse("2026-10-25 02:30")
    for offered in ("2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"):
        assert offered in caught.value.hint


def test_a_time_that_never_was():
    with pytest.raises(WrongTime, match="never was"):
        clock.parse("2026-03-29 02:30")


@pytest.mark.parametrize("text", ["", "yesterday", "14:05", "2026-13-01 00:00", "1-x"])
def test_no_time_at_all(text):
    with pytest.raises(WrongTime, match="not a time"):
        clock.parse(text)


def test_shown_in_the_zone_of_the_cluster_and_in_utc():
    moment = utc(2026, 7, 22, 12, 5)
    assert clock.local(moment) == "2026-07-22 14:05:00"
    said = clock.in_both(moment)
    assert said == "2026-07-22 14:05:00 CEST (2026-07-22 12:05:00 UTC)"
    clock.use(None)
    assert clock.parse(clock.local(moment)) == moment


def test_the_machines_own_zone_changes_its_clock_too(monkeypatch):
    """Without a time-zone in the description; restored by the next test's zone."""
    clock.use(None)
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        assert clock.parse("2026-07-22 14:05") == utc(2026, 7, 22, 12, 5)
        with pytest.raises(WrongTime, match="was twice"):
            clock.parse("2026-10-25 02:30")
        with pytest.raises(WrongTime, match="never was"):
            clock.parse("2026-03-29 02:30")
    finally:
        monkeypatch.undo()
        time.tzset()
