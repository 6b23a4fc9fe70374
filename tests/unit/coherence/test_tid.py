"""TIDs as bytes, numbers, text and times."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from persistent.timestamp import TimeStamp

from tidstorage.coherence import tid

tids = st.integers(0, 2**64 - 1)


@given(tids)
def test_bytes_both_ways(number):
    data = tid.to_bytes(number)
    assert len(data) == 8 and tid.from_bytes(data) == number


@given(tids)
def test_text_both_ways(number):
    text = tid.to_text(number)
    assert len(text) == 18 and text.startswith("0x")
    assert (
        tid.from_text(text) == tid.from_text(text.upper().replace("X", "x")) == number
    )


@given(tids, tids)
def test_order_is_that_of_bytes_and_text(one, other):
    as_bytes = tid.to_bytes(one) < tid.to_bytes(other)
    as_text = tid.to_text(one) < tid.to_text(other)
    assert (one < other) == as_bytes == as_text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "0x1",
        "03c0ffee00000001",
        "0x03c0ffee0000000g",
        "0x03c0ffee00000001\n",
        "0x03c0ffee000000012",
        "-0x3c0ffee00000001",
        5,
        None,
    ],
)
def test_not_a_tid(text):
    with pytest.raises(ValueError, match="not a TID"):
        tid.from_text(text)


def test_vectors_are_sorted_and_read_back():
    vector = {"root": 2, "catalog": 1}
    text = tid.vector_to_text(vector)
    assert list(text.items()) == [
        ("catalog", "0x0000000000000001"),
        ("root", "0x0000000000000002"),
    ]
    assert tid.vector_from_text(text) == vector


def test_a_vector_with_something_else():
    with pytest.raises(ValueError, match="not a TID"):
        tid.vector_from_text({"root": "yesterday"})


def test_the_time_of_a_tid_is_utc():
    number = tid.from_bytes(TimeStamp(2026, 11, 24, 18, 30, 15.5).raw())
    expected = datetime.datetime(2026, 11, 24, 18, 30, 15, 500_000, datetime.UTC)
    assert abs(tid.to_time(number) - expected) < datetime.timedelta(microseconds=1)


def test_the_zero_of_an_empty_storage_has_a_time_too():
    assert tid.to_time(0).year == 1900


@given(
    st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1)),
    st.integers(-14, 14),
)
def test_the_last_tid_of_a_moment(naive, hours):
    """What a server gives in that microsecond is at or below it; later ones are not."""
    moment = naive.replace(tzinfo=datetime.UTC)
    elsewhere = moment.astimezone(datetime.timezone(datetime.timedelta(hours=hours)))
    second = moment.second + moment.microsecond / 1e6
    given_then = tid.from_bytes(TimeStamp(*moment.timetuple()[:5], second).raw())
    # 71.6 steps are a microsecond.
    assert given_then <= tid.last_at(elsewhere) <= given_then + 73
