"""Which TID a server may have given by a moment, as two barriers measured its clock."""

import datetime

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point, Skew
from tidstorage.verbs.moments.clocks import Clocks

NOON = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
RIGHT, SLOW, FAST = Skew(-0.001, 0.001), Skew(-6.001, -6.0), Skew(6.0, 6.001)


def at(seconds):
    return NOON + datetime.timedelta(seconds=seconds)


def tids(*seconds):
    return [tid.last_at(at(each)) for each in seconds]


def stuck(begin, count):
    """TIDs of a server that waits for its clock."""
    (first,) = tids(begin)
    return [first + number for number in range(count)]


def kept(clocks, seconds, **given):
    """{storage: how many of its TIDs may be of before}."""
    last = clocks.last_by(at(seconds), given)
    return {
        storage: sum(each <= last[storage] for each in held)
        for storage, held in given.items()
    }


def test_nothing_is_known_of_clocks():
    assert kept(Clocks(), 2, a=tids(1, 2, 3)) == {"a": 2}
    assert Clocks().doubt == Clocks().common == 0


def test_a_slow_server_gives_earlier_tids():
    clocks = Clocks({"a": SLOW, "b": RIGHT}, {"a": SLOW, "b": RIGHT})
    assert kept(clocks, 2, a=tids(-5, -4.1, -3), b=tids(1, 2, 3)) == {"a": 2, "b": 2}
    assert clocks.doubt < 0.01 and clocks.common == 0
    assert Clocks({"a": SLOW, "b": SLOW}).common < -5.9


def test_what_waits_for_its_clock_was_given_after_it_was_set_back():
    clocks = Clocks({"a": RIGHT, "b": RIGHT}, {"a": SLOW, "b": RIGHT})
    # Set back at 10; late enough again at 16; the last two were given at 17 and 18.
    held = [*tids(8, 9), *stuck(10, 4), *tids(11, 12)]
    assert kept(clocks, 8.5, a=held) == {"a": 1}
    assert kept(clocks, 16.5, a=held) == {"a": 6}
    assert kept(clocks, 17.5, a=held) == {"a": 7}
    assert kept(clocks, 18.5, a=held) == {"a": 8}
    assert clocks.doubt > 6


def test_a_gap_is_where_a_clock_was_set_forward():
    clocks = Clocks({"a": RIGHT, "b": RIGHT}, {"a": FAST, "b": RIGHT})
    # Set forward between 9 and 10.
    held = tids(7, 8, 9, 16, 17)
    assert kept(clocks, 8.5, a=held) == {"a": 2}
    assert kept(clocks, 10.5, a=held) == {"a": 4}
    # Without a gap: whatever may be of before is kept.
    assert kept(clocks, 2, a=tids(1, 2, 7, 9)) == {"a": 3}


def test_our_own_clock_was_wrong_at_the_later_barrier():
    both = {"a": RIGHT, "b": RIGHT}
    for wrong in (SLOW, FAST):
        clocks = Clocks(both, {"a": wrong, "b": wrong})
        held = tids(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
        assert kept(clocks, 4.5, a=held, b=held) == {"a": 4, "b": 4}
        reversed_clocks = Clocks(clocks.after, both)
        assert kept(reversed_clocks, 4.5, a=held, b=held) == {"a": 4, "b": 4}
        assert clocks.doubt > 5.9
    # A gap in one alone is of one to which nobody wrote.
    clocks = Clocks(both, {"a": FAST, "b": FAST})
    assert kept(clocks, 4.5, a=tids(1, 9), b=held) == {"a": 1, "b": 4}
    # One that waits for its clock shows that it was the servers'.
    clocks = Clocks(both, {"a": SLOW, "b": SLOW})
    held = [*tids(1, 2), *stuck(3, 3), *tids(4, 5)]
    assert kept(clocks, 10.5, a=held, b=held) == {"a": 6, "b": 6}


def test_a_point_of_a_barrier_with_a_wrong_clock_is_of_both_times():
    both = {"a": RIGHT, "b": RIGHT}
    clocks = Clocks(both, both)

    def point(*skews):
        of_both = dict(zip("ab", skews, strict=True))
        return Point({}, NOON, "barrier", complete_until=at(-1), skew=of_both)

    slow_host, fast_host = point(FAST, FAST), point(SLOW, SLOW)
    assert (clocks.latest(slow_host) - NOON).total_seconds() > 5.9
    assert clocks.earliest_complete(slow_host) == at(-1)
    assert clocks.latest(fast_host) == NOON
    assert (clocks.earliest_complete(fast_host) - NOON).total_seconds() < -6.9
    # One server alone says nothing of ours.
    one_server = point(FAST, RIGHT)
    assert clocks.latest(one_server) == NOON
    assert clocks.earliest_complete(one_server) == at(-1)


def test_servers_whose_clocks_were_set_say_nothing_of_ours():
    clocks = Clocks({"a": RIGHT, "b": RIGHT}, {"a": SLOW, "b": RIGHT})
    # Of a host that is six seconds slow, as a is by then.
    point = Point({}, NOON, "stamps", skew={"a": RIGHT, "b": FAST})
    assert (clocks.latest(point) - NOON).total_seconds() > 5.9


def test_a_vote_that_waited_tells_by_its_answer():
    """The lock was given just before the answer, however early it was asked for."""
    clocks = Clocks({"a": Skew(-6.0, -2.0), "b": RIGHT})
    assert kept(clocks, 2, a=tids(-4.5, -4.01, -3.9)) == {"a": 2}
