"""The tail: how far back it reads, and what it does and does not tell."""

import cut_checks
import pytest
from cut_histories import proof_through_a_settled_record, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from tidstorage.coherence import cut, tail
from tidstorage.coherence.cut import Record, coherent_cut
from tidstorage.coherence.stamp import Stamp
from tidstorage.coherence.tail import (
    followers_from,
    partners_from,
    tail_cut,
    tail_stops,
)
from tidstorage.errors import NotCoherent, UnknownStorage


def stamp(name, participants="", **vector):
    return Stamp(name.encode() * 16, frozenset(participants), vector)


def newest_first(records):
    return {storage: reversed(held) for storage, held in records.items()}


def test_stops_are_what_all_others_knew_of_but_never_at_the_floor():
    known = {"A": {"B": 50, "C": 7}, "B": {"A": 20, "C": 9}, "C": {"A": 30}}
    floor = {"A": 3, "B": 0, "C": 8}
    assert tail_stops(known, floor) == {"A": 20, "B": 1, "C": 9}


def test_a_single_storage_is_examined_down_to_its_floor():
    assert tail_stops({"A": {}}, {"A": 5}) == {"A": 6}


def test_how_far_partners_and_followers_go_back():
    stamps = [stamp("t", "AB", A=5, B=9, C=2), stamp("u", "AC", A=7)]
    assert partners_from(stamps) == {"A": 5, "B": 9, "C": 0}
    assert followers_from(stamps, "AC") == {"A": 5, "C": 0}


def test_a_proof_that_only_a_settled_record_gives():
    history = proof_through_a_settled_record()
    result = tail_cut(newest_first(history.records))
    assert result.tolerant == {"A": 2, "C": 31, "W": 22}
    assert [each.missing for each in result.half_commits] == [("C",)]


def test_a_settled_half_commit_is_not_looked_at():
    """So the tail is no strict cut, and does not name all half commits."""
    records = {
        "A": [Record(1, stamp("t", "AB", A=1, B=11)), Record(2, stamp("u", "A", B=12))],
        "B": [Record(11, stamp("v", "B", A=2)), Record(12, stamp("w", "B", A=3))],
    }
    full = coherent_cut(records)
    assert full.strict == {"A": 0, "B": 0} and len(full.half_commits) == 1
    result = tail_cut(newest_first(records))
    assert result.tolerant == full.tolerant == {"A": 2, "B": 12}
    assert result.half_commits == ()


def test_a_long_history_is_not_read():
    """Two storages that are always written together: a handful of records."""
    count = 5000
    stamps = [
        Stamp(n.to_bytes(16, "big"), frozenset("AB"), {"A": n, "B": n})
        for n in range(1, count)
    ]
    records = [Record(n, each) for n, each in enumerate(stamps, start=1)]
    taken = {"A": 0, "B": 0}

    def backwards(storage):
        for record in reversed(records):
            taken[storage] += 1
            yield record

    result = tail_cut({"A": backwards("A"), "B": backwards("B")})
    assert result.tolerant == {"A": count - 1, "B": count - 1}
    assert max(taken.values()) <= 3


def test_errors_are_those_of_the_full_computation():
    with pytest.raises(NotCoherent):
        tail_cut({"A": [Record(1), Record(2)]})
    with pytest.raises(UnknownStorage):
        tail_cut({"A": [Record(1, stamp("t", "AZ"))]})
    assert tail_cut({"A": [Record(1, stamp("t", "AZ"))]}, partial=True).tolerant == {
        "A": 1
    }


class Core:
    coherent_cut = staticmethod(cut.coherent_cut)
    tail_cut = staticmethod(tail.tail_cut)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**63))
def test_the_tail_equals_the_tolerant_cut(seed):
    history = simulate(seed, steps=300)
    cut_checks.tail_equals_tolerant(Core, history)
    cut_checks.tail_reads_no_further_than_needed(Core, history)
