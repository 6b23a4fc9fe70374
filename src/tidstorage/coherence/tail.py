"""The tolerant cut from the last records of each storage alone; no I/O.

Whole files need not be read to find where they stop fitting together: what all
other storages already knew of when they made their last records is settled.

    stop[X] = max(floor[X] + 1,
                  min over Y != X of vector_X of the last record of Y that has
                  an entry for X;  floor[X] + 1 where Y has no such record)

Call *settled* every record of X below stop[X].  In a history of one timeline,
where a vector names only records that were there when it was made:

1. **A settled record x, on X, is dropped by no tolerant cut.**  Every other
   storage Y has a record y that could see x (the last one with an entry for X).
   Suppose x has to be dropped.  Then it has in its past, or is itself of, a
   transaction T for which one of two things holds.
   - T lacks its record on a participant C and is not proven dead there.  But T
     is in the past of a record of C: of x, if C is X; else of the last record
     of C, which could see x.  That proves it dead.
   - T could see a record z of a storage Z beyond the end of Z.  But x, if Z is
     X, or else the record of Z that could see x, was finished after T was
     stamped, so after z: Z reaches beyond z.
   Hence what is dropped, and what causes it, is all at or above the stops, and
   only that needs to be examined.
2. **What a transaction T knew bounds what is of interest about T.**  A record of
   X below vector_X(T) was finished before T was stamped; the record of T on X,
   and everything that has T in its past, come at or after vector_X(T).  So:
   - the partner records of T are found reading each participant back that far;
   - all that could prove T dead is found reading *every* storage back that far
     (to the floor where T has no entry).  Participants alone are not enough:
     the chain from T to its proof may run through settled records of any
     storage.

So `tail_cut` examines what is not settled, reads back for partners, and reads
further back for proofs where a partner is missing.  The result is exactly the
*tolerant* cut of the full computation.  It is **not** the strict cut: a half
commit whose records are all settled is not even looked at.  Strict cuts, and the
list of all half commits, need every record above the floor:
`tidstorage.coherence.cut.coherent_cut`.

A storage that stays idle after the floor holds no record that could know of
anything, so it keeps all others unsettled down to the floor.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tidstorage.coherence.cut import (
    DeadRecord,
    decide,
    describe_half_commits,
    is_kept,
    limits_before,
    refuse_unknown_floor,
)
from tidstorage.coherence.history import History
from tidstorage.coherence.point import HalfCommit
from tidstorage.coherence.record import Record
from tidstorage.coherence.stamp import Stamp
from tidstorage.coherence.tid import Vector


@dataclass(frozen=True, slots=True)
class TailCut:
    """The greatest coherent cut that keeps proven half commits.

    tolerant: {storage id: last TID kept, inclusive}.
    half_commits: those in it that have a record at or above the stops; not all.
    """

    tolerant: dict[str, int]
    half_commits: tuple[HalfCommit, ...]


def tail_cut(
    newest_first: Mapping[str, Iterable[Record]],
    floor: Vector | None = None,
    *,
    retired: Collection[str] = (),
    partial: bool = False,
    dead: Collection[DeadRecord] = (),
    packed: Vector | None = None,
) -> TailCut:
    """The tolerant cut of `coherent_cut`, reading back only as far as needed.

    newest_first: {storage id: its records, the last one first}; taken one by
        one, and no further than needed (by one record).
    packed: as `coherent_cut` takes it; looked at once all that is needed was read.
    The other arguments, and the errors, are those of `coherent_cut`; what is wrong
    is noticed only in what is read.
    """
    floor = floor or {}
    if not partial:
        refuse_unknown_floor(floor, {*newest_first, *retired})
    tails = {
        storage: _Tail(records, floor.get(storage, 0))
        for storage, records in newest_first.items()
    }
    stops = tail_stops(
        {storage: _last_known(storage, tails) for storage in tails},
        {storage: tail.floor for storage, tail in tails.items()},
    )
    _read_back(tails, stops)
    examined = [
        record.stamp
        for storage, tail in tails.items()
        for record in tail.read
        if record.stamp is not None and record.tid >= stops[storage]
    ]
    _read_back(tails, partners_from(examined))
    history = _history(tails, retired, partial, packed)
    torn = [*history.find_torn(retired, partial=partial, since=stops)]
    torn_ids = {record.commit_id for record in torn}
    if torn_ids:
        suspects = [stamp for stamp in examined if stamp.commit_id in torn_ids]
        _read_back(tails, followers_from(suspects, tails.keys()))
        history = _history(tails, retired, partial, packed)
        torn = [*history.find_torn(retired, partial=partial, since=stops)]
    decision = decide(history, torn, dead)
    limits = history.coherent_limits(limits_before(history, decision.undecided))
    return TailCut(
        tolerant=history.vector(limits),
        half_commits=describe_half_commits(
            history, (record for record in decision.dead if is_kept(record, limits))
        ),
    )


def tail_stops(last_known: Mapping[str, Vector], floor: Vector) -> dict[str, int]:
    """{storage id: TID of the first record that has to be examined}.

    last_known: for each storage, {other storage id: the entry for it of the last
        record that has one}.  floor: for each storage, 0 where there is none.
    """
    return {
        storage: max(
            floor[storage] + 1,
            min(
                (
                    known.get(storage, 0)
                    for other, known in last_known.items()
                    if other != storage
                ),
                default=0,
            ),
        )
        for storage in last_known
    }


def partners_from(stamps: Iterable[Stamp]) -> dict[str, int]:
    """{storage id: TID}: no partner record of these is below it; 0: unknown."""
    bounds: dict[str, int] = {}
    for stamp in stamps:
        for storage in stamp.participants:
            bound = stamp.vector.get(storage, 0)
            bounds[storage] = min(bound, bounds.get(storage, bound))
    return bounds


def followers_from(
    stamps: Collection[Stamp], storages: Collection[str]
) -> dict[str, int]:
    """{storage id: TID}: nothing that has one of these in its past is below it."""
    return {
        storage: min(stamp.vector.get(storage, 0) for stamp in stamps)
        for storage in storages
    }


class _Tail:
    """The last records of one storage above its floor, as far as they were read."""

    def __init__(self, newest_first: Iterable[Record], floor: int) -> None:
        self.floor = floor
        #: The records read, the last one of the storage first.
        self.read: list[Record] = []
        self._older = iter(newest_first)
        self._next = next(self._older, None)

    @property
    def base(self) -> int:
        """The TID of the record before those that were read, or the floor."""
        return max(self.floor, self._next.tid if self._next else 0)

    def step_back(self) -> bool:
        """Read one record more; false at the floor."""
        if self._next is None or self._next.tid <= self.floor:
            return False
        self.read.append(self._next)
        self._next = next(self._older, None)
        return True

    def read_back(self, tid: int) -> None:
        """Read all records at or above ``tid`` (and the floor)."""
        while self.base >= tid and self.step_back():
            pass

    def backwards(self) -> Iterator[Record]:
        """All records, the last one first, read as they are asked for."""
        position = 0
        while position < len(self.read) or self.step_back():
            yield self.read[position]
            position += 1


def _last_known(storage: str, tails: Mapping[str, _Tail]) -> dict[str, int]:
    """{other storage id: the entry for it of the last record that has one}."""
    known: dict[str, int] = {}
    wanted = tails.keys() - {storage}
    for record in tails[storage].backwards():
        if record.stamp is not None:
            for other in wanted - known.keys():
                if other in record.stamp.vector:
                    known[other] = record.stamp.vector[other]
        if len(known) == len(wanted):
            break
    return known


def _read_back(tails: Mapping[str, _Tail], bounds: Vector) -> None:
    for storage, bound in bounds.items():
        if storage in tails:
            tails[storage].read_back(bound)


def _history(
    tails: Mapping[str, _Tail],
    retired: Collection[str],
    partial: bool,
    packed: Vector | None,
) -> History:
    return History(
        {storage: tail.read[::-1] for storage, tail in tails.items()},
        {storage: tail.base for storage, tail in tails.items()},
        retired=retired,
        partial=partial,
        packed=packed,
    )
