"""The time a pack is given, against what FileStorage makes of it."""

import datetime

from hypothesis import given
from hypothesis import strategies as st
from persistent.timestamp import TimeStamp

from tidstorage.coherence import tid
from tidstorage.verbs.pack import times

FAR = datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)
#: Moments of 1980 to 2079, to the resolution of a TID.
moments = st.builds(
    lambda moment, fraction: tid.from_bytes(
        TimeStamp(*moment.timetuple()[:5], moment.second + fraction).raw()
    ),
    st.datetimes(datetime.datetime(1980, 1, 1), datetime.datetime(2079, 12, 31)),
    st.floats(0, 0.999999),
)


@given(moments)
def test_the_tid_of_a_pack_is_below_that_of_the_point(kept):
    stop = times.tid_packed_to(times.seconds_below(kept, FAR))
    assert stop < kept
    # And not more than two milliseconds.
    far = tid.to_time(kept) - tid.to_time(stop)
    assert far < datetime.timedelta(milliseconds=2)


@given(st.integers(2**58, 2**59))
def test_also_where_a_tid_stands_for_no_time(kept):
    """As the 31st of February, 24 hours before the 1st of March."""
    assert times.tid_packed_to(times.seconds_below(kept, FAR)) < kept


def test_the_time_of_a_tid_itself_lies_beyond_it_too_often():
    """Why there is a millisecond between: with none, this would do as well."""
    kept = [
        tid.from_bytes(TimeStamp(2026, 11, 22, 14, 5, n / 97).raw())
        for n in range(5000)
    ]
    beyond = [
        each
        for each in kept
        if times.tid_packed_to(TimeStamp(tid.to_bytes(each)).timeTime()) > each
    ]
    assert len(beyond) > 1000


@given(moments, st.integers(1, 10**9))
def test_not_after_the_time_that_history_is_kept_from(kept, seconds):
    at = datetime.datetime.fromtimestamp(
        TimeStamp(tid.to_bytes(kept)).timeTime() - seconds, datetime.UTC
    )
    assert times.seconds_below(kept, at) == at.timestamp()
