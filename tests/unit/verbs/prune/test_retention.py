"""Which sets are kept, over calendars that never were."""

import dataclasses
import datetime
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidstorage.cluster.cluster import Retention
from tidstorage.verbs.prune.retention import Candidate, choose_kept

BEGIN = datetime.datetime(2026, 1, 1, 1, 15, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def candidate(moment, full=False, good=True):
    return Candidate(f"{moment:%Y%m%dT%H%M%SZ}", moment, full, good)


def nightly(days, full_every=28, bad=()):
    return [
        candidate(BEGIN + number * DAY, number % full_every == 0, number not in bad)
        for number in range(days)
    ]


def kept(found, *, zone=datetime.UTC, **keys):
    chosen = choose_kept(found, Retention(**keys), zone)
    return [number for number, each in enumerate(found) if each.id in chosen]


def test_full_sets_are_kept_with_what_came_after():
    found = nightly(100)
    assert kept(found, keep_full=1) == list(range(84, 100))
    assert kept(found, keep_full=2) == list(range(56, 100))
    assert choose_kept(found, Retention(keep_full=1), datetime.UTC)[found[84].id] == (
        "full 1",
    )


def test_too_few_full_sets_let_none_go():
    assert kept(nightly(50), keep_full=3) == list(range(50))
    assert kept(nightly(50, bad=[0]), keep_full=2) == list(range(50))


def test_bad_sets_do_not_count():
    found = nightly(100, bad=[84])
    assert kept(found, keep_full=1) == list(range(56, 100))
    found = nightly(100, bad=range(85, 100))
    assert kept(found, keep_full=1) == list(range(84, 100))


def test_unknown_sets_do_not_count_and_are_kept():
    found = nightly(100, bad=range(84, 100))
    found[84:] = [dataclasses.replace(each, is_unknown=True) for each in found[84:]]
    # Were the full set of day 84 good, those of day 56 and after could go.
    assert kept(found, keep_full=1) == list(range(56, 100))
    found = nightly(100, bad=[3])
    found[3] = dataclasses.replace(found[3], is_unknown=True)
    assert kept(found, keep_full=1) == [3, *range(84, 100)]


def test_of_older_ones_the_last_of_each_period():
    found = nightly(100, full_every=7)
    # 98 is full; days count from the newest one that has a set.
    assert kept(found, keep_full=1, keep_daily=4) == [96, 97, 98, 99]
    # The first of January 2026 was a Thursday: 3, 10... are Sundays.
    assert kept(found, keep_full=1, keep_weekly=3) == [87, 94, 98, 99]
    # January ends with 30, February with 58, March with 89.
    assert kept(found, keep_full=1, keep_monthly=12) == [30, 58, 89, 98, 99]


def test_a_period_without_a_set_is_none():
    found = [candidate(BEGIN), candidate(BEGIN + 90 * DAY, full=True)]
    assert kept(found, keep_full=1, keep_daily=2) == [0, 1]
    assert kept(found, keep_full=1) == [1]


def test_the_last_good_one_of_a_period_counts():
    found = nightly(100, full_every=7, bad=[58, 57])
    assert kept(found, keep_full=1, keep_monthly=3) == [56, 89, 98, 99]


def test_days_are_those_of_the_zone():
    tokyo = zoneinfo.ZoneInfo("Asia/Tokyo")
    moments = [
        datetime.datetime(2026, 3, 1, hour, tzinfo=datetime.UTC) for hour in (1, 16, 17)
    ]
    found = [candidate(each, full=True) for each in moments]
    assert kept(found, keep_full=1, keep_daily=2) == [2]
    assert kept(found, keep_full=1, keep_daily=2, zone=tokyo) == [0, 2]


def test_without_a_set_nothing_is_kept():
    assert choose_kept([], Retention(), datetime.UTC) == {}


@st.composite
def calendars(draw):
    """Sets over some years, full and good ones among them at random."""
    gaps = draw(st.lists(st.integers(1, 60 * 24 * 40), max_size=60))
    moment, found = BEGIN, []
    for gap in gaps:
        moment += datetime.timedelta(minutes=gap)
        found.append(candidate(moment, draw(st.booleans()), draw(st.booleans())))
    return found


retentions = st.builds(
    Retention,
    keep_full=st.integers(1, 4),
    keep_daily=st.integers(0, 10),
    keep_weekly=st.integers(0, 6),
    keep_monthly=st.integers(0, 6),
)


@given(calendars(), retentions)
def test_the_last_good_set_always_stays(found, retention):
    chosen = choose_kept(found, retention, datetime.UTC)
    good = [each for each in found if each.is_good]
    if good:
        assert good[-1].id in chosen
    else:
        assert chosen.keys() == {each.id for each in found}


@given(calendars(), retentions)
def test_as_many_good_full_sets_stay_as_are_to_be_kept(found, retention):
    chosen = choose_kept(found, retention, datetime.UTC)
    full = [each.id for each in found if each.is_good and each.is_full]
    newest = full[-retention.keep_full :]
    assert set(newest) <= chosen.keys()
    if len(full) < retention.keep_full:
        assert chosen.keys() == {each.id for each in found}
    else:
        assert {each.id for each in found if each.id >= newest[0]} <= chosen.keys()


@given(calendars(), retentions)
def test_nothing_older_stays_that_no_period_asks_for(found, retention):
    chosen = choose_kept(found, retention, datetime.UTC)
    full = [each.id for each in found if each.is_good and each.is_full]
    if len(full) >= retention.keep_full:
        newest_good = [each.id for each in found if each.is_good][-1]
        older = [each for each in chosen if each < full[-retention.keep_full]]
        older = [each for each in older if each != newest_good]
        periods = retention.keep_daily + retention.keep_weekly + retention.keep_monthly
        assert len(older) <= periods
        assert set(older) <= {each.id for each in found if each.is_good}


@given(calendars(), retentions)
def test_what_was_kept_is_kept_again(found, retention):
    """A second run has nothing to do."""
    chosen = choose_kept(found, retention, datetime.UTC)
    left = [each for each in found if each.id in chosen]
    assert choose_kept(left, retention, datetime.UTC).keys() == chosen.keys()


@pytest.mark.parametrize("keep", [1, 2])
def test_the_order_of_what_is_given_does_not_matter(keep):
    found = nightly(60)
    chosen = choose_kept(found, Retention(keep_full=keep), datetime.UTC)
    assert choose_kept(found[::-1], Retention(keep_full=keep), datetime.UTC) == chosen
