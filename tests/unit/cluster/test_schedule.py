"""When cron was due."""

import datetime

import cronsim
import pytest

from tidstorage.cluster import schedule


def local(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).astimezone()


@pytest.mark.parametrize(
    ("fields", "now", "due"),
    [
        ("15 2 * * *", "2026-11-22 02:15:01", "2026-11-22 02:15"),
        ("15 2 * * *", "2026-11-22 02:14:59", "2026-11-21 02:15"),
        ("0 6 * * 7", "2026-11-26 12:00", "2026-11-22 06:00"),
        ("0 6 * * sun", "2026-11-26 12:00", "2026-11-22 06:00"),
        ("0 3 1 * *", "2026-11-26 12:00", "2026-11-01 03:00"),
        ("*/10 * * * *", "2026-11-26 12:09:30", "2026-11-26 12:00"),
        # A day of the month or a day of the week: cron takes either.
        ("0 0 1 * 1", "2026-11-26 12:00", "2026-11-23 00:00"),
    ],
)
def test_the_moment_before_now(fields: str, now: str, due: str) -> None:
    assert schedule.last_due(fields, local(now)) == local(due)


def test_what_is_no_schedule() -> None:
    assert schedule.mistake("15 2 * * *") is None
    assert schedule.mistake("99 2 * * *") == "Bad minute"
    with pytest.raises(ValueError, match="Bad day-of-month"):
        schedule.last_due("0 3 31 2 *", local("2026-11-26"))


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("word", ["*", *map(str, range(62)), "05"])
def test_what_needs_no_parser_is_what_the_parser_takes(position, word):
    fields = ["*"] * 5
    fields[position] = word
    text = " ".join(fields)
    try:
        cronsim.CronSim(text, datetime.datetime(2000, 1, 1))
    except cronsim.CronSimError:
        assert schedule.mistake(text) is not None
    else:
        assert schedule.mistake(text) is None
