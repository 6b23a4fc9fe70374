"""What has to hold of every history; AssertionError where it does not.

``core`` is anything with ``coherent_cut`` and ``tail_cut``: ours, or a copy with
a defect (test_mutations.py).
"""

import itertools
import random

from cut_oracle import Oracle

from tidstorage.coherence.tid import LAST
from tidstorage.errors import UnknownStorage


def _cut(core, history, **more):
    arguments, named = history.arguments()
    return core.coherent_cut(*arguments, **named, **more)


def _above_floor(history):
    """(storage, TID, transaction) of the stamped records that are examined."""
    for storage, held in history.records.items():
        for record in held:
            if record.tid > history.floor.get(storage, 0) and record.stamp:
                yield storage, record.tid, history.transactions[storage, record.tid]


def _half_commits(found):
    return {each.commit_id: (dict(each.present), set(each.missing)) for each in found}


def assert_equals_oracle(result, oracle, excused=frozenset()):
    proven = oracle.dead() | set(excused)
    assert result.strict == oracle.greatest()
    assert result.tolerant == oracle.greatest(proven)
    named = oracle.half_commits(result.tolerant, proven)
    assert _half_commits(result.half_commits) == named
    everything = dict.fromkeys(result.tolerant, float("inf"))
    torn = {
        commit_id: stamp
        for commit_id, stamp in oracle.examined().items()
        if oracle.missing(stamp)
    }
    halves = oracle.half_commits(everything, proven)
    assert set(_half_commits(result.undecided)) == torn.keys() - halves.keys()


def greatest(core, history):
    """The cuts are the greatest of all that are coherent by definition."""
    oracle = Oracle(history.records, history.floor, history.retired)
    assert_equals_oracle(_cut(core, history), oracle)


def greatest_with_proofs(core, history):
    """Proofs of the caller count like our own."""
    oracle = Oracle(history.records, history.floor, history.retired)
    excused = {
        (transaction.commit_id, storage)
        for _, _, transaction in _above_floor(history)
        for storage in transaction.participants
        if transaction.ended and storage not in transaction.tids
    }
    result = _cut(core, history, dead=excused)
    assert_equals_oracle(result, oracle, excused)


def greatest_below_a_bound(core, history):
    """Nothing above the bound is kept, and all below that can be."""
    oracle = Oracle(history.records, history.floor, history.retired)
    for share in (0.2, 0.5, 0.8):
        until = {
            storage: held[int(len(held) * share)].tid
            for storage, held in history.records.items()
            if held
        }
        result = _cut(core, history, until=until)
        assert result.strict == oracle.greatest(until=until)
        assert result.tolerant == oracle.greatest(oracle.dead(), until)
        named = oracle.half_commits(result.tolerant, oracle.dead())
        assert _half_commits(result.half_commits) == named


def _packed(history):
    """(records, {storage: TID}) as packs of some storages leave them.

    A pack may take any record away that it has reached, marked or not.
    """
    rng = random.Random(history.seed)
    records, packed = dict(history.records), {}
    for storage, held in history.records.items():
        above = [each.tid for each in held if each.tid > history.floor.get(storage, 0)]
        if above and rng.random() < 0.6:
            packed[storage] = rng.choice([*above, LAST])
            records[storage] = [
                each
                for each in held
                if each.tid > packed[storage] or rng.random() < 0.5
            ]
    return records, packed


def greatest_with_packs(core, history):
    """What a pack may have taken proves nothing, and is named as unknown."""
    records, packed = _packed(history)
    oracle = Oracle(records, history.floor, history.retired, packed=packed)
    ended = {
        (each.commit_id, storage)
        for each in history.transactions.values()
        for storage in each.participants
        if each.ended and random.Random(each.commit_id).random() < 0.5
    }
    # What somebody saw before the pack is proven, whatever the pack took.
    proven = {
        (each.commit_id, storage)
        for each in history.transactions.values()
        for storage in each.participants
        if each.ended and storage not in each.tids and each.commit_id[0] < 128
    }
    result = core.coherent_cut(
        records,
        history.floor,
        retired=history.retired,
        dead=proven,
        settled=ended,
        packed=packed,
    )
    settled = oracle.dead() | ended | proven
    unknown = oracle.unknown(proven, settled)
    excused = {(each, storage) for each, lost in unknown.items() for storage in lost}
    assert result.strict == oracle.greatest(excused)
    assert result.tolerant == oracle.greatest(settled)
    named = oracle.half_commits(result.tolerant, proven, settled)
    assert _half_commits(result.half_commits) == named
    for each in result.unknown:
        assert set(each.unseen) == unknown[each.commit_id]


def packs_make_no_half_commits(core, history):
    """By what happened: no whole transaction is torn, and no torn one is whole."""
    records, packed = _packed(history)
    result = core.coherent_cut(
        records, history.floor, retired=history.retired, packed=packed
    )
    happened = {each.commit_id: each for each in history.transactions.values()}
    for each in result.half_commits:
        transaction = happened[each.commit_id]
        assert all(transaction.never_gets(storage) for storage in each.missing)
        assert not set(each.missing) & transaction.tids.keys()
    said = {each.commit_id for each in (*result.half_commits, *result.unknown)}
    for storage, held in records.items():
        for record in held:
            if (
                record.stamp is not None
                and history.floor.get(storage, 0) < record.tid
                and record.tid <= result.tolerant[storage]
            ):
                transaction = history.transactions[storage, record.tid]
                wanted = records.keys() & set(transaction.participants)
                if wanted - transaction.tids.keys():
                    assert transaction.commit_id in said


def greatest_of_a_part(core, history):
    """With a storage left out: an error that names it, or what the rest allows."""
    left_out = max(history.records)
    records = {s: held for s, held in history.records.items() if s != left_out}
    floor = {s: tid for s, tid in history.floor.items() if s != left_out}
    oracle = Oracle(records, floor, history.retired, partial=True)
    result = core.coherent_cut(records, floor, retired=history.retired, partial=True)
    assert_equals_oracle(result, oracle)
    named = any(
        left_out in stamp.participants | stamp.vector.keys()
        for stamp in oracle.examined().values()
    )
    try:
        strictly = core.coherent_cut(records, floor, retired=history.retired)
    except UnknownStorage as error:
        assert named and left_out in str(error)
    else:
        assert not named and strictly == result


def true_to_what_happened(core, history):
    """By what the processes did, not by what the stamps say.

    Nothing kept read anything that is dropped; nothing is split but what never
    got its other records, and of that nothing in the strict cut.
    """
    result = _cut(core, history)
    for cut, halves_allowed in ((result.strict, False), (result.tolerant, True)):
        for storage, tid, transaction in _above_floor(history):
            if tid > cut[storage]:
                continue
            for other in history.records.keys() & set(transaction.participants):
                if other in transaction.tids:
                    assert transaction.tids[other] <= cut[other], "split"
                else:
                    assert halves_allowed and transaction.never_gets(other), "half"
            for other, bound in transaction.reads.items():
                if other in cut:
                    read = [
                        each
                        for where, each in history.transactions
                        if where == other and each < bound
                    ]
                    assert max(read, default=0) <= cut[other], "dangling"


def deaths_are_true(core, history):
    """What is called a half commit never gets the records it misses."""
    happened = {each.commit_id: each for each in history.transactions.values()}
    for each in _cut(core, history).half_commits:
        transaction = happened[each.commit_id]
        assert all(transaction.never_gets(storage) for storage in each.missing)
        assert not set(each.missing) & transaction.tids.keys()
        given = transaction.tids.keys() & history.records.keys()
        assert dict(each.present) == {s: transaction.tids[s] for s in given}


def no_half_commit_is_missed(core, history):
    """Every half commit that a tolerant restore would bring back is named."""
    result = _cut(core, history)
    named = {each.commit_id for each in result.half_commits}
    for storage, tid, transaction in _above_floor(history):
        wanted = history.records.keys() & set(transaction.participants)
        if tid <= result.tolerant[storage] and wanted - transaction.tids.keys():
            assert transaction.commit_id in named


def ordered(core, history):
    """floor <= strict <= tolerant <= end."""
    result = _cut(core, history)
    for storage, held in history.records.items():
        floor = history.floor.get(storage, 0)
        end = max(floor, held[-1].tid if held else 0)
        strict, tolerant = result.strict[storage], result.tolerant[storage]
        assert floor <= strict <= tolerant <= end


def below_the_floor_nothing_counts(core, history):
    """What is trusted may be left out."""
    above = {
        storage: [each for each in held if each.tid > history.floor.get(storage, 0)]
        for storage, held in history.records.items()
    }
    shorter = core.coherent_cut(above, history.floor, retired=history.retired)
    assert shorter == _cut(core, history)


def stable(core, history):
    """The cut of what a cut leaves is all of it."""
    result = _cut(core, history)
    for cut, field in ((result.strict, "strict"), (result.tolerant, "tolerant")):
        left = {
            storage: [each for each in held if each.tid <= cut[storage]]
            for storage, held in history.records.items()
        }
        dead = {(h.commit_id, s) for h in result.half_commits for s in h.missing}
        again = core.coherent_cut(
            left, history.floor, retired=history.retired, dead=dead
        )
        assert getattr(again, field) == cut


def unstamped_are_counted(core, history):
    result = _cut(core, history)
    for storage, held in history.records.items():
        lowest, highest = history.floor.get(storage, 0), result.tolerant[storage]
        within = [each for each in held if lowest < each.tid <= highest]
        count = sum(each.stamp is None for each in within)
        assert result.unstamped[storage] == count


def tail_equals_tolerant(core, history):
    """The tail gives the tolerant cut, and names no half commit of its own."""
    result = _cut(core, history)
    tail = core.tail_cut(
        {storage: reversed(held) for storage, held in history.records.items()},
        history.floor,
        retired=history.retired,
    )
    assert tail.tolerant == result.tolerant
    named = _half_commits(result.half_commits)
    assert _half_commits(tail.half_commits).items() <= named.items()


def tail_reads_no_further_than_needed(core, history):
    """Where nothing is torn: the stops, the partners, and one record more."""
    result = _cut(core, history)
    if result.half_commits or result.undecided:
        return
    above = {
        storage: [each for each in held if each.tid > history.floor.get(storage, 0)]
        for storage, held in history.records.items()
    }
    searched, stops = {}, {}
    for storage, held in above.items():
        others = above.keys() - {storage}
        found = {other: _last_known(held, other) for other in others}
        # How far the search for the last entries has to go.
        searched[storage] = min(
            (position for position, _ in found.values()), default=len(held)
        )
        for other, (_, bound) in found.items():
            stops[other] = min(bound, stops.get(other, bound))
    look_back = dict(stops)
    for storage, held in above.items():
        for record in held:
            if record.stamp and record.tid >= stops.get(storage, 0):
                for other in record.stamp.participants & above.keys():
                    bound = record.stamp.vector.get(other, 0)
                    look_back[other] = min(bound, look_back.get(other, 0))
    taken = dict.fromkeys(above, 0)

    def backwards(storage):
        for record in reversed(history.records[storage]):
            taken[storage] += 1
            yield record

    core.tail_cut(
        {storage: backwards(storage) for storage in above},
        history.floor,
        retired=history.retired,
    )
    for storage, held in above.items():
        needed = sum(
            position >= searched[storage] or record.tid >= look_back.get(storage, 0)
            for position, record in enumerate(held)
        )
        assert taken[storage] <= needed + 1


def _last_known(held, other):
    """(position, entry) of the last record with an entry; (0, 0) without one."""
    for position in reversed(range(len(held))):
        stamp = held[position].stamp
        if stamp and other in stamp.vector:
            return position, stamp.vector[other]
    return 0, 0


#: For the histories that are small enough to try every cut.
BY_ENUMERATION = (
    greatest,
    greatest_with_proofs,
    greatest_below_a_bound,
    greatest_of_a_part,
    greatest_with_packs,
)
BY_TRUTH = (
    true_to_what_happened,
    deaths_are_true,
    no_half_commit_is_missed,
    ordered,
    below_the_floor_nothing_counts,
    stable,
    unstamped_are_counted,
    tail_equals_tolerant,
    tail_reads_no_further_than_needed,
    packs_make_no_half_commits,
)
ALL = tuple(itertools.chain(BY_ENUMERATION, BY_TRUTH))
