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
- A retired id counts for nothing, unless its records are given.
- Aliases are resolved before, by `tidstorage.coherence.stamp.rename`.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tidstorage.coherence.history import History, Limits, TornRecord
from tidstorage.coherence.point import HalfCommit
from tidstorage.coherence.record import Record
from tidstorage.coherence.tid import Vector
from tidstorage.errors import UnknownStorage

__all__ = ["CutResult", "DeadRecord", "Record", "coherent_cut"]

#: (commit id, id of the storage that will never get its record).
DeadRecord = tuple[bytes, str]


@dataclass(frozen=True, slots=True)
class CutResult:
    """The coherent cuts of a set of storages, and what is torn.

    strict, tolerant: {storage id: last TID kept, inclusive}; the floor, or 0,
        where no record above it is kept.
    half_commits: those that the tolerant cut keeps, above the floor.
    undecided: transactions above the floor that miss a record which they may
        still get, or which was just not given; the tolerant cut drops them.
    unstamped: {storage id: number of records without a stamp above the floor,
        up to the tolerant cut}, for every storage.
    """

    strict: dict[str, int]
    tolerant: dict[str, int]
    half_commits: tuple[HalfCommit, ...]
    undecided: tuple[HalfCommit, ...]
    unstamped: dict[str, int]


def coherent_cut(
    records: Mapping[str, Sequence[Record]],
    floor: Vector | None = None,
    *,
    retired: Collection[str] = (),
    partial: bool = False,
    dead: Collection[DeadRecord] = (),
    until: Vector | None = None,
) -> CutResult:
    """The greatest coherent cuts of the records, and the half commits in them.

    records: {storage id: its records in the order of their TIDs}, for every
        storage of the cluster (an empty one: an empty list).
    floor: the last TIDs, inclusive, that are trusted as they stand; records at
        or below are never cut, and may be left out.
    retired: ids of storages that are gone for good.
    partial: pass over storages that are neither given nor retired.
    dead: what is proven by other means (a held barrier, a lock that was free).
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
    history = History(records, floor, retired=retired, partial=partial)
    torn = [*history.find_torn(retired, partial=partial)]
    dead_torn, undecided = decide(history, torn, dead)
    before_torn = _lower_to(history, limits_before(history, torn), until or {})
    before_undecided = _lower_to(
        history, limits_before(history, undecided), until or {}
    )
    strict = history.coherent_limits(before_torn)
    tolerant = history.coherent_limits(before_undecided)
    return CutResult(
        strict=history.vector(strict),
        tolerant=history.vector(tolerant),
        half_commits=describe_half_commits(
            history, (record for record in dead_torn if is_kept(record, tolerant))
        ),
        undecided=describe_half_commits(history, undecided),
        unstamped={
            storage: sum(record.stamp is None for record in held[: tolerant[storage]])
            for storage, held in history.records.items()
        },
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
    history: History, torn: Iterable[TornRecord], dead: Collection[DeadRecord] = ()
) -> tuple[list[TornRecord], list[TornRecord]]:
    """Part the torn records into those of half commits, and all others.

    dead: what is proven by other means.
    """
    proven = set(dead)
    pasts: dict[str, Limits] = {}
    dead_torn: list[TornRecord] = []
    undecided: list[TornRecord] = []
    torn = list(torn)
    # One record of a transaction in the past of C's end proves it for all.
    for record in torn:
        for storage in record.missing:
            if storage not in pasts:
                pasts[storage] = history.past_of(storage)
            if record.position < pasts[storage][record.storage]:
                proven.add((record.commit_id, storage))
    # It is a half commit only where nothing that it misses can come any more.
    for record in torn:
        if all((record.commit_id, storage) in proven for storage in record.missing):
            dead_torn.append(record)
        else:
            undecided.append(record)
    return dead_torn, undecided


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
