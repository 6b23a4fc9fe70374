"""Coherent cuts of simulated and of arbitrary histories, against the oracle.

More examples on demand: HYPOTHESIS_PROFILE=long pytest tests/unit/...
"""

import os

import cut_checks
import pytest
from cut_histories import simulate
from cut_oracle import Oracle, combinations
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tidstorage.coherence import cut, tail
from tidstorage.coherence.cut import Record
from tidstorage.coherence.stamp import Stamp

#: How many times the examples of an ordinary run.
LONG = 100 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 1


def examples(count):
    """Settings for a property; a loaded machine is no failure."""
    return settings(
        max_examples=count * LONG,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


MOST_COMBINATIONS = 3000
seeds = st.integers(0, 2**63)


class Core:
    coherent_cut = staticmethod(cut.coherent_cut)
    tail_cut = staticmethod(tail.tail_cut)


# A vote that its server forgot: dead before its client knows of it.
@example(109351)
@pytest.mark.timeout(300 * LONG)
@examples(1200)
@given(seeds)
def test_small_histories_against_every_possible_cut(seed):
    history = simulate(seed, steps=140)
    assume(combinations(history.records, history.floor) <= MOST_COMBINATIONS)
    for check in cut_checks.ALL:
        check(Core, history)


@pytest.mark.timeout(300 * LONG)
@examples(500)
@given(seeds)
def test_long_histories_against_what_happened(seed):
    history = simulate(seed, steps=500)
    for check in cut_checks.BY_TRUTH:
        check(Core, history)


@st.composite
def arbitrary_records(draw):
    """Anything at all: no process could have made most of these."""
    ids = ["a", "b", "c"][: draw(st.integers(1, 3))]
    named = st.sampled_from([*ids, "gone"])
    stamps = [
        Stamp(
            bytes([number]) * 16,
            frozenset(draw(st.sets(named))),
            draw(st.dictionaries(named, st.integers(0, 9), max_size=3)),
        )
        for number in range(draw(st.integers(1, 5)))
    ]
    records = {
        storage: [
            Record(tid, draw(st.sampled_from([None, *stamps])))
            for tid in sorted(draw(st.sets(st.integers(1, 8), max_size=5)))
        ]
        for storage in ids
    }
    return records, draw(st.dictionaries(st.sampled_from(ids), st.integers(0, 9)))


@pytest.mark.timeout(300 * LONG)
@examples(400)
@given(arbitrary_records())
def test_arbitrary_records_against_every_possible_cut(given):
    """Bounds beyond the end, ids twice in a storage, participants that lie."""
    records, floor = given
    oracle = Oracle(records, floor, retired={"gone"})
    result = cut.coherent_cut(records, floor, retired=["gone"])
    cut_checks.assert_equals_oracle(result, oracle)


def test_the_simulation_contains_what_it_is_for():
    """Else the properties above would hold of nothing."""
    histories = [simulate(seed, steps=140) for seed in range(400)]
    results = [
        cut.coherent_cut(*h.arguments()[0], retired=h.retired) for h in histories
    ]
    assert sum(bool(h.floor) for h in histories) > 100
    assert sum(bool(h.retired) for h in histories) > 10
    assert sum(h.records.keys() != h.floor.keys() > set() for h in histories) > 5
    assert sum(bool(r.half_commits) for r in results) > 30
    assert sum(bool(r.undecided) for r in results) > 100
    assert sum(r.strict != r.tolerant for r in results) > 30
    assert sum(any(r.unstamped.values()) for r in results) > 50
    ends = [{s: v[-1].tid if v else 0 for s, v in h.records.items()} for h in histories]
    assert sum(r.tolerant != e for r, e in zip(results, ends, strict=True)) > 100
    small = [combinations(h.records, h.floor) <= MOST_COMBINATIONS for h in histories]
    assert sum(small) > 390


@pytest.mark.parametrize("check", cut_checks.ALL, ids=lambda check: check.__name__)
def test_a_seed_gives_the_same_history_again(check):
    first, second = simulate(7, steps=140), simulate(7, steps=140)
    assert first.records == second.records
    check(Core, second)
