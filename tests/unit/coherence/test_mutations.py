"""Defects put into the core on purpose: each is caught by a named check.

A mutation replaces one piece of a module's text; the core is then loaded afresh
beside the real one.  A mutation whose text is no longer there fails too: it has
to be kept up with the code.
"""

import functools
import importlib.util
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import cut_checks
import observer_checks
import pytest
from cut_histories import (
    participant_without_an_entry,
    partner_that_is_settled,
    proof_through_a_settled_record,
    simulate,
)
from cut_oracle import combinations

from tidstorage.coherence import cut, tail
from tidstorage.daemon import storage_observer

#: In the order in which they import each other.
CORE = (
    "tidstorage.coherence.history",
    "tidstorage.coherence.cut",
    "tidstorage.coherence.tail",
)
SEEDS = range(1500)
MOST_COMBINATIONS = 3000


@dataclass(frozen=True)
class Mutation:
    """``old`` becomes ``new`` in the module; ``check`` has to see it.

    example: makes the one history in which to look, instead of random ones.
    """

    name: str
    module: str
    old: str
    new: str
    check: object
    example: object = None


MUTATIONS = [
    Mutation(
        "no vector",
        "history",
        "in record.stamp.vector.items():",
        "in ():",
        cut_checks.true_to_what_happened,
    ),
    Mutation(
        "what closed connections knew is dropped",
        "history",
        "in record.stamp.vector.items():",
        "in [\n"
        "                each for each in record.stamp.vector.items()\n"
        "                if each[0] in record.stamp.participants\n"
        "            ]:",
        cut_checks.true_to_what_happened,
    ),
    Mutation(
        "only the last record's vector counts",
        "history",
        "list(accumulate(column, max))",
        "column",
        cut_checks.greatest,
    ),
    Mutation(
        "records below the floor are examined",
        "history",
        "[record for record in held if record.tid > self.base[storage]]",
        "[record for record in held if record.tid > 0]",
        cut_checks.ordered,
    ),
    Mutation(
        "the floor is no end",
        "history",
        "tids[-1] if tids else self.base[storage]",
        "tids[-1] if tids else 0",
        cut_checks.greatest,
    ),
    Mutation(
        "a cut at the floor falls to nothing",
        "history",
        "if limit else self.base[storage]",
        "if limit else 0",
        cut_checks.ordered,
    ),
    Mutation(
        "a bound one TID too strict",
        "history",
        "bisect_right(needs[other], first_dropped)",
        "bisect_right(needs[other], first_dropped - 1)",
        cut_checks.greatest,
    ),
    Mutation(
        "a bound one TID too lax",
        "history",
        "bisect_right(needs[other], first_dropped)",
        "bisect_right(needs[other], first_dropped + 1)",
        cut_checks.true_to_what_happened,
    ),
    Mutation(
        "the end one TID too short",
        "history",
        "self.end(other) + 1)",
        "self.end(other))",
        cut_checks.greatest,
    ),
    Mutation(
        "the end one TID too far",
        "history",
        "self.end(other) + 1)",
        "self.end(other) + 2)",
        cut_checks.greatest,
    ),
    Mutation(
        "a partner may be dropped",
        "history",
        "column[position] = tid + 1",
        "pass",
        cut_checks.true_to_what_happened,
    ),
    Mutation(
        "missing partners are not looked for",
        "history",
        "if record.stamp.participants <= present.keys():",
        "if True:",
        cut_checks.true_to_what_happened,
    ),
    Mutation(
        "dropping does not spread",
        "history",
        "lowered.add(storage)",
        "pass",
        cut_checks.true_to_what_happened,
    ),
    Mutation(
        "retired storages are waited for",
        "history",
        "set(retired) - self.tids.keys()",
        "set()",
        cut_checks.greatest,
    ),
    Mutation(
        "retired storages are unknown",
        "history",
        "{*records, *retired}",
        "{*records}",
        cut_checks.greatest,
    ),
    Mutation(
        "partial waits for what was not given",
        "history",
        "missing &= self.tids.keys()",
        "pass",
        cut_checks.greatest_of_a_part,
    ),
    Mutation(
        "a participant that was not given is passed over in silence",
        "history",
        "and known.issuperset(stamp.participants)",
        "",
        cut_checks.greatest_of_a_part,
        participant_without_an_entry,
    ),
    Mutation(
        "a vector of what was not given is passed over in silence",
        "history",
        "known.issuperset(stamp.vector)",
        "True",
        cut_checks.greatest_of_a_part,
    ),
    Mutation(
        "the proof of death is not transitive",
        "history",
        "grown.add(other)",
        "pass",
        cut_checks.greatest,
    ),
    Mutation(
        "the proof of death sees one record too much",
        "history",
        "before = bisect_left(",
        "before = bisect_right(",
        cut_checks.deaths_are_true,
    ),
    Mutation(
        "whatever is missing is dead",
        "cut",
        "if record.position < pasts[storage][record.storage]:",
        "if True:",
        cut_checks.deaths_are_true,
    ),
    Mutation(
        "dead on one participant is dead on all",
        "cut",
        "if any((record.commit_id, storage) not in ended",
        "if all((record.commit_id, storage) not in ended",
        cut_checks.deaths_are_true,
    ),
    Mutation(
        "proofs of the caller are ignored",
        "cut",
        "ended = {*dead, *settled}",
        "ended = {*settled}",
        cut_checks.greatest_with_proofs,
    ),
    Mutation(
        "what somebody saw before the pack is forgotten",
        "cut",
        "proven = set(dead)",
        "proven = set()",
        cut_checks.greatest_with_packs,
    ),
    Mutation(
        "what a pack took is dead",
        "history",
        "return packed is not None and",
        "return False and",
        cut_checks.packs_make_no_half_commits,
    ),
    Mutation(
        "what came after a pack may be packed away",
        "history",
        "stamp.vector.get(storage, 0) <= packed",
        "True",
        cut_checks.greatest_with_packs,
    ),
    Mutation(
        "what may be whole is dropped from the strict cut",
        "cut",
        "known_torn = [*decision.dead, *decision.undecided]",
        "known_torn = [*decision.dead, *decision.undecided, *decision.unknown]",
        cut_checks.greatest_with_packs,
    ),
    Mutation(
        "what may be whole is not said",
        "cut",
        "decision.unknown.append(record)",
        "pass",
        cut_checks.packs_make_no_half_commits,
    ),
    Mutation(
        "strict keeps half commits",
        "cut",
        "limits_before(history, known_torn), ",
        "limits_before(history, undecided), ",
        cut_checks.true_to_what_happened,
    ),
    Mutation(
        "a bound keeps one record too many",
        "cut",
        "bisect_right(history.tids[storage], until[storage])",
        "bisect_right(history.tids[storage], until[storage]) + 1",
        cut_checks.greatest_below_a_bound,
    ),
    Mutation(
        "half commits are not named",
        "cut",
        "if is_kept(record, tolerant))",
        "if False)",
        cut_checks.no_half_commit_is_missed,
    ),
    Mutation(
        "half commits outside the cut are named",
        "cut",
        "if is_kept(record, tolerant))",
        "if True)",
        cut_checks.greatest,
    ),
    Mutation(
        "unstamped records count beyond the cut",
        "cut",
        "held[: tolerant[storage]]",
        "held",
        cut_checks.unstamped_are_counted,
    ),
    Mutation(
        "the tail is settled by one storage, not by all",
        "tail",
        "            min(\n",
        "            max(\n",
        cut_checks.tail_equals_tolerant,
    ),
    Mutation(
        "the tail takes a storage that never knew for one that knew all",
        "tail",
        "known.get(storage, 0)\n",
        "known.get(storage, 1 << 63)\n",
        cut_checks.tail_equals_tolerant,
    ),
    Mutation(
        "the tail does not read back for partners",
        "tail",
        "_read_back(tails, partners_from(examined))",
        "pass",
        cut_checks.tail_reads_no_further_than_needed,
        partner_that_is_settled,
    ),
    Mutation(
        "the tail reads back on participants alone",
        "tail",
        "_read_back(tails, followers_from(suspects, tails.keys()))",
        "_read_back(tails, partners_from(suspects))",
        cut_checks.tail_equals_tolerant,
        proof_through_a_settled_record,
    ),
    Mutation(
        "the tail examines what it only read for its partners",
        "tail",
        "partial=partial, since=stops)]\n    decision",
        "partial=partial)]\n    decision",
        cut_checks.tail_equals_tolerant,
    ),
    Mutation(
        "the tail reads one record too little",
        "tail",
        "while self.base >= tid and",
        "while self.base > tid and",
        cut_checks.tail_equals_tolerant,
    ),
]


OBSERVER_MUTATIONS = [
    Mutation(
        "reconnect gaps skipped",
        "observer",
        "            self._gap = True\n        self._wake.set()",
        "            pass",
        observer_checks.gaps_are_filled,
    ),
    Mutation(
        "only what was announced is fetched",
        "observer",
        "if announced or last > self._ended:",
        "if announced:",
        observer_checks.gaps_are_filled,
    ),
    Mutation(
        "announcements are not heard",
        "observer",
        "self._announced = True",
        "pass",
        observer_checks.announced_records_are_seen,
    ),
    Mutation(
        "what cannot wait is forgotten",
        "observer",
        "                self._again(asked)\n                return False\n",
        "                return False\n",
        observer_checks.what_cannot_wait_here_is_seen_later,
    ),
]


class Core:
    """The core that a check is given: ours."""

    coherent_cut = staticmethod(cut.coherent_cut)
    tail_cut = staticmethod(tail.tail_cut)


def mutated(mutation: Mutation) -> types.SimpleNamespace:
    """The core with one defect; the real modules stay as they are."""
    real = {name: sys.modules[name] for name in CORE}
    try:
        fresh = {}
        for name in CORE:
            source = Path(real[name].__file__).read_text()
            if name == f"tidstorage.coherence.{mutation.module}":
                assert mutation.old in source, f"no longer in {name}: {mutation.old}"
                source = source.replace(mutation.old, mutation.new)
            spec = importlib.util.spec_from_loader(name, loader=None)
            module = fresh[name] = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            exec(compile(source, f"<{mutation.name}>", "exec"), module.__dict__)
    finally:
        sys.modules.update(real)
    return types.SimpleNamespace(
        coherent_cut=fresh["tidstorage.coherence.cut"].coherent_cut,
        tail_cut=fresh["tidstorage.coherence.tail"].tail_cut,
    )


@functools.cache
def small_histories():
    """The random histories in which to look."""
    histories = (simulate(seed, steps=140) for seed in SEEDS)
    return [
        each
        for each in histories
        if combinations(each.records, each.floor) <= MOST_COMBINATIONS
    ]


def first_that_fails(core, check, histories):
    """The first history in which the check sees the defect; None: survived."""
    for history in histories:
        try:
            check(core, history)
        except Exception:
            # A defect may end in anything; the real core has to pass, see below.
            return history
    return None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_caught(mutation):
    histories = [mutation.example()] if mutation.example else small_histories()
    history = first_that_fails(mutated(mutation), mutation.check, histories)
    assert history is not None, f"survived {len(histories)} histories"
    # The defect is what fails, not the history.
    mutation.check(Core, history)


@pytest.mark.parametrize(
    "mutation", OBSERVER_MUTATIONS, ids=lambda mutation: mutation.name
)
def test_a_mutation_of_the_observer_is_caught(mutation):
    source = Path(storage_observer.__file__).read_text()
    assert source.count(mutation.old) == 1, f"not there, or twice: {mutation.old}"
    source = source.replace(mutation.old, mutation.new)
    defective = types.ModuleType("observer")
    # Dataclasses look their module up by its name.
    defective.__dict__["__name__"] = storage_observer.__name__
    exec(compile(source, f"<{mutation.name}>", "exec"), defective.__dict__)
    with pytest.raises(AssertionError):
        mutation.check(defective)
    mutation.check(storage_observer)
