"""Coherent cuts of a set of storages: the pure function everything rests on.

No I/O here.  The daemon calls it with live records, restore with the tails of
files, check with whole files.  How it is computed: `tidstorage.coherence.history`.

A **cut** keeps the first records of every storage and drops the others.  It is
*coherent* if

1. it splits no transaction: of a kept record, the record on every participant
   is kept as well; and
2. it is closed under "could have seen": of a kept record with the entry b for
   storage Y in its vector, no record of Y below b is dropped or was never given
   (where nothing of Y is dropped, Y has to reach b - 1).

The maximum of two coherent cuts, storage by storage, is coherent, so there is
one greatest.

A **half commit** is a transaction with a record on A, none on its participant
C, and proof that C will never get one.  The proof: C holds a record of some U
that has the transaction T in its past, where T is in the past of what follows
T's record on the same storage, of what could see T's record, and so on.

    Every vote of a transaction precedes all its finishes, and a storage is
    locked from vote to finish.  If U has a record on a storage where T has an
    earlier one, U voted there after T's finish.  If U could see T's record, U
    was stamped, and therefore voted, after T's finish.  Either way U's last
    vote came after T's first finish, which came after all votes of T; the same
    follows along a chain.  U's finish on C follows its last vote, so it came
    after T's vote on C; and as only one of them can hold the lock of C at a
    time, T had let it go before U's finish.  What C did not get by then, it
    never gets.

This rests on the vote locks of FileStorage behind ZEO; RelStorage has none.

A pack takes records away, so that one is not there proves something only where C was
read whole.  A transaction's record on C can only be at or above its vector's entry
for C.  Where a pack may have reached that, nobody can tell whether the record was
ever there: the outcome is **unknown**, neither whole nor torn, and it is said so.
Such a transaction is dropped by no cut, once nothing of it can come any more.

The *strict* cut excludes all torn transactions, the *tolerant* cut keeps those
that are half commits on every storage they are missing from, and names them.

Decisions on odd input:

- Unstamped records need nothing; they are only counted.  They are dropped with
  what stands before them in their storage.
- No entry in a vector: nothing of that storage was known to the process.
- A stamp whose participants leave out a storage that holds a record of the
  commit id: that storage counts as a participant.
- A commit id twice in one storage: the two are kept or dropped together.
- TIDs that do not rise within a storage: NotCoherent.
- A storage that is not in the floor (added later): its floor is 0.
- A storage that ends below its floor (its last records were packed away): the
  floor counts as its end.  The caller makes sure that it is no short copy.
- A storage whose last records a pack took away, above the floor: whoever saw more of
  it saw what is lost, unless the caller gives a record for the end that was seen.
- A retired id counts for nothing, unless its records are given.
- Aliases are resolved before, by `tidstorage.coherence.stamp.rename`.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tidstorage.coherence.history import History, Limits, TornRecord
from tidstorage.coherence.point import HalfCommit, UnknownOutcome
from tidstorage.coherence.record import Record
from tidstorage.coherence.tid import LAST, Vector
from tidstorage.errors import UnknownStorage

__all__ = [
    "CutResult",
    "DeadRecord",
    "Record",
    "SettledRecord",
    "coherent_cut",
    "complete_packed_ends",
    "find_unseen",
]

#: (commit id, id of the storage that will never get its record).
DeadRecord = tuple[bytes, str]
#: (commit id, id of a storage without its record that gets none from now on).
SettledRecord = tuple[bytes, str]


@dataclass(frozen=True, slots=True)
class CutResult:
    """The coherent cuts of a set of storages, and what is torn.

    strict, tolerant: {storage id: last TID kept, inclusive}; the floor, or 0,
        where no record above it is kept.
    half_commits: those that the tolerant cut keeps, above the floor.
    undecided: transactions above the floor that miss a record which they may
        still get, or which was just not given; the tolerant cut drops them.
    unknown: transactions that the tolerant cut keeps, above the floor, and of which
        nobody can tell whether they are whole.
    unstamped: {storage id: number of records without a stamp above the floor,
        up to the tolerant cut}, for every storage.
    """

    strict: dict[str, int]
    tolerant: dict[str, int]
    half_commits: tuple[HalfCommit, ...]
    undecided: tuple[HalfCommit, ...]
    unstamped: dict[str, int]
    unknown: tuple[UnknownOutcome, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Torn records, parted by what is proven of their transactions.

    dead: of half commits; ``missing`` names what is proven only.  undecided: what they
    miss may still come.  unknown: nothing of them comes any more, and whether anything
    is missing cannot be told.
    """

    dead: list[TornRecord]
    undecided: list[TornRecord]
    unknown: list[TornRecord]


def coherent_cut(
    records: Mapping[str, Sequence[Record]],
    floor: Vector | None = None,
    *,
    retired: Collection[str] = (),
    partial: bool = False,
    dead: Collection[DeadRecord] = (),
    until: Vector | None = None,
    settled: Collection[SettledRecord] = (),
    packed: Vector | None = None,
) -> CutResult:
    """The greatest coherent cuts of the records, and the half commits in them.

    records: {storage id: its records in the order of their TIDs}, for every
        storage of the cluster (an empty one: an empty list).
    floor: the last TIDs, inclusive, that are trusted as they stand; records at
        or below are never cut, and may be left out.
    retired: ids of storages that are gone for good.
    partial: pass over storages that are neither given nor retired.
    dead: what is proven by other means, by somebody who could see all of the storage.
    settled: what gets no record any more, whether it had one or not (a held barrier, a
        lock that was free).
    packed: {storage id: TID}: up to it, inclusive, a pack may have taken records away;
        no entry, or one at or below the floor: all above the floor was read.
    until: {storage id: last TID that may be kept, inclusive}; no entry: all.  What
        follows is dropped, but proves what is dead like any other record.

    Raises:
      UnknownStorage: where a stamp above the floor, or the floor, names a storage
        that is neither given nor retired, unless ``partial``
      NotCoherent: where the TIDs of a storage do not rise
    """
    floor = floor or {}
    if not partial:
        refuse_unknown_floor(floor, {*records, *retired})
    history = History(records, floor, retired=retired, partial=partial, packed=packed)
    torn = history.find_torn(retired, partial=partial)
    decision = decide(history, torn, dead, settled)
    known_torn = [*decision.dead, *decision.undecided]
    before_torn = _lower_to(history, limits_before(history, known_torn), until or {})
    before_undecided = _lower_to(
        history, limits_before(history, decision.undecided), until or {}
    )
    strict = history.coherent_limits(before_torn)
    tolerant = history.coherent_limits(before_undecided)
    return CutResult(
        strict=history.vector(strict),
        tolerant=history.vector(tolerant),
        half_commits=describe_half_commits(
            history, (record for record in decision.dead if is_kept(record, tolerant))
        ),
        undecided=describe_half_commits(history, decision.undecided),
        unstamped={
            storage: sum(record.stamp is None for record in held[: tolerant[storage]])
            for storage, held in history.records.items()
        },
        unknown=tuple(
            UnknownOutcome(half.commit_id, half.present, half.missing)
            for half in describe_half_commits(
                history,
                (record for record in decision.unknown if is_kept(record, tolerant)),
            )
        ),
    )


def refuse_unknown_floor(floor: Vector, known: set[str]) -> None:
    """Refuse a floor of storages of which nothing is known.

    Raises: UnknownStorage: where one was neither given nor retired.
    """
    unknown = floor.keys() - known
    if unknown:
        raise UnknownStorage(
            "the floor names storages that were not given: "
            + ", ".join(sorted(unknown))
        )


def decide(
    history: History,
    torn: Iterable[TornRecord],
    dead: Collection[DeadRecord] = (),
    settled: Collection[SettledRecord] = (),
) -> Decision:
    """Part the torn records by what is proven of their transactions.

    dead, settled: what is proven by other means, see `coherent_cut`.
    """
    proven = set(dead)
    ended = {*dead, *settled}
    pasts: dict[str, Limits] = {}
    torn = list(torn)
    # One record of a transaction in the past of C's end proves it for all.
    for record in torn:
        for storage in record.missing:
            if storage not in pasts:
                pasts[storage] = history.past_of(storage)
            if record.position < pasts[storage][record.storage]:
                ended.add((record.commit_id, storage))
    decision = Decision([], [], [])
    for record in torn:
        if any((record.commit_id, storage) not in ended for storage in record.missing):
            # It may be whole yet: nothing is said of it before all of it is settled.
            decision.undecided.append(record)
            continue
        # What does not come any more is not there, but where a pack may have taken it.
        missing = frozenset(
            storage
            for storage in record.missing
            if storage not in record.unseen or (record.commit_id, storage) in proven
        )
        if missing:
            decision.dead.append(replace(record, missing=missing))
        else:
            decision.unknown.append(record)
    return decision


def find_unseen(
    records: Mapping[str, Sequence[Record]], floor: Vector, packed: Vector
) -> set[SettledRecord]:
    """What seems to be missing, and may have been packed away.

    The arguments are those of `coherent_cut`.  Whoever knows that no transaction was
    between two finishes at the end of these records may take it for settled.
    """
    history = History(records, floor, partial=True, packed=packed)
    return {
        (torn.commit_id, storage)
        for torn in history.find_torn((), partial=True)
        for storage in torn.unseen
    }


def complete_packed_ends(
    records: Mapping[str, Sequence[Record]], packed: Vector
) -> dict[str, Sequence[Record]]:
    """The records, with one more at the end of storages that were packed to their end.

    packed: as `coherent_cut` takes it, `tidstorage.coherence.tid.LAST` for these.

    A pack takes a last record without objects away, and others had seen it.  A record
    without a stamp stands for the last one that anybody had seen: it is not lost.
    """
    completed: dict[str, Sequence[Record]] = dict(records)
    for storage, held in records.items():
        if packed.get(storage) != LAST:
            continue
        seen = max(
            (
                record.stamp.vector.get(storage, 0) - 1
                for others in records.values()
                for record in others
                if record.stamp is not None
            ),
            default=0,
        )
        if seen > (held[-1].tid if held else 0):
            completed[storage] = [*held, Record(seen)]
    return completed


def limits_before(history: History, torn: Iterable[TornRecord]) -> Limits:
    """Limits that keep everything before the first torn record of a storage."""
    limits = history.all_records()
    for record in torn:
        limits[record.storage] = min(limits[record.storage], record.position)
    return limits


def _lower_to(history: History, limits: Limits, until: Vector) -> Limits:
    """The limits, lowered to what is at or below the TIDs given."""
    return {
        storage: min(limit, bisect_right(history.tids[storage], until[storage]))
        if storage in until
        else limit
        for storage, limit in limits.items()
    }


def is_kept(torn: TornRecord, limits: Limits) -> bool:
    """Whether the record is before the limits."""
    return torn.position < limits[torn.storage]


def describe_half_commits(
    history: History, torn: Iterable[TornRecord]
) -> tuple[HalfCommit, ...]:
    """One `HalfCommit` for each transaction, in the order they are found."""
    missing: dict[bytes, frozenset[str]] = {}
    for record in torn:
        missing[record.commit_id] = missing.get(record.commit_id, frozenset())
        missing[record.commit_id] |= record.missing
    return tuple(
        HalfCommit(commit_id, dict(history.present[commit_id]), tuple(sorted(storages)))
        for commit_id, storages in missing.items()
    )
