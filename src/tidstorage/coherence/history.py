"""What every transaction record needs of every other storage; no I/O.

A record *needs* two things of another storage Y: the records of Y that its
process could have seen (those below the vector's entry for Y), and the record
on Y of its own transaction.  To keep the record with TID t is to keep all
records below t + 1, since only whole ends of a storage are ever dropped.  So
both are one number: the exclusive bound below which Y has to be whole.

    need(r, Y) = max(vector_r[Y], TID of r's own transaction on Y, plus 1)

The maximum of that number over the first records of a storage never falls from
one record to the next, so "the first record that needs more than this" is a
binary search.  Two closures are computed with it:

- downwards, `History.coherent_limits`: what has to be dropped with something.
  A vector of limits is coherent if no kept record needs what is dropped or was
  never given.  If two vectors are coherent, so is their maximum in each
  component: what a kept record needs is kept in the vector that keeps it.  So
  there is one greatest coherent vector, and lowering limits only where they
  must be lowered ends there, in whatever order it is done.
- upwards, `History.past_of`: everything that came before the end of a storage.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tidstorage.coherence.record import Record
from tidstorage.coherence.stamp import Stamp
from tidstorage.coherence.tid import Vector, to_text
from tidstorage.errors import NotCoherent, UnknownStorage

#: {storage id: number of its records above the base, counted from the first}.
Limits = dict[str, int]


@dataclass(frozen=True, slots=True)
class TornRecord:
    """A record of a torn transaction: one that lacks its record on a participant.

    position: index of the record among those of its storage above the base.
    commit_id: of the transaction.  missing: ids of the participants without a record.
    unseen: those of them where a pack may have taken the record away: that it is not
        there says nothing.
    """

    storage: str
    position: int
    commit_id: bytes
    missing: frozenset[str]
    unseen: frozenset[str] = frozenset()


class History:
    """The records of all storages above a base, and what they need of each other.

    records: {storage id: its records, in the order of their TIDs}.
    base: {storage id: TID}; records at or below it are trusted and never
        dropped: they only count as present.  No entry: 0.
    retired: ids of storages that count for nothing (unless their records are given).
    partial: pass over storages that are neither given nor retired.
    packed: {storage id: TID}: above the base and up to it, inclusive, a pack may have
        taken records away.  No entry: nothing above the base.

    Raises:
      NotCoherent: where the TIDs of a storage do not rise
      UnknownStorage: where a stamp above the base names a storage that is neither
        given nor retired, unless ``partial``
    """

    def __init__(
        self,
        records: Mapping[str, Sequence[Record]],
        base: Vector,
        *,
        retired: Collection[str] = (),
        partial: bool = False,
        packed: Vector | None = None,
    ) -> None:
        for storage, held in records.items():
            _refuse_disorder(storage, held)
        self.base = {storage: base.get(storage, 0) for storage in records}
        self.packed = {
            storage: last
            for storage, last in (packed or {}).items()
            if last > self.base.get(storage, last)
        }
        self.records = {
            storage: [record for record in held if record.tid > self.base[storage]]
            for storage, held in records.items()
        }
        self.tids = {
            storage: [record.tid for record in held]
            for storage, held in self.records.items()
        }
        if not partial:
            self._refuse_unknown({*records, *retired})
        self.present = _find_present(records)
        self._needs = {
            storage: self._add_up_needs(held) for storage, held in self.records.items()
        }

    def _refuse_unknown(self, known: set[str]) -> None:
        for storage, held in self.records.items():
            for record in held:
                stamp = record.stamp
                if stamp is None or (
                    known.issuperset(stamp.vector)
                    and known.issuperset(stamp.participants)
                ):
                    continue
                unknown = min((stamp.participants | stamp.vector.keys()) - known)
                named_as = "participant" if unknown in stamp.participants else "seen"
                raise UnknownStorage(
                    f"storage {unknown} was not given, but commit"
                    f" {stamp.commit_id.hex()} names it ({named_as}) in its record"
                    f" {to_text(record.tid)} of storage {storage}"
                )

    def _add_up_needs(self, held: Sequence[Record]) -> dict[str, list[int]]:
        """{Y: for each record of a storage, what it and those before it need of Y}."""
        columns: dict[str, list[int]] = {}
        for position, record in enumerate(held):
            if record.stamp is None:
                # Nothing tells what it needs; what stands before it, it needs.
                continue
            # All that its process could have seen of Y.
            for other, bound in record.stamp.vector.items():
                if other in columns:
                    columns[other][position] = bound
                elif other in self.tids:
                    columns[other] = [0] * len(held)
                    columns[other][position] = bound
            # Its own transaction's record on Y: to keep that TID is to have Y whole
            # below the next one.  A torn transaction needs what there is of it.
            for other, tid in self.present[record.stamp.commit_id].items():
                column = columns.setdefault(other, [])
                if not column:
                    column.extend([0] * len(held))
                if column[position] <= tid:
                    column[position] = tid + 1
        # Whoever keeps a record keeps all before it, and what those need: so the
        # needs of the first n records are a maximum that never falls with n.
        return {
            other: list(accumulate(column, max)) for other, column in columns.items()
        }

    def find_torn(
        self, retired: Collection[str], *, partial: bool, since: Vector | None = None
    ) -> Iterator[TornRecord]:
        """The records whose transaction lacks a participant's record.

        since: {storage id: TID of the first record to look at}; default: all.
        """
        passed_over = set(retired) - self.tids.keys()
        for storage, held in self.records.items():
            first = since.get(storage, 0) if since else 0
            for position, record in enumerate(held):
                if record.stamp is None or record.tid < first:
                    continue
                present = self.present[record.stamp.commit_id]
                if record.stamp.participants <= present.keys():
                    continue
                missing = record.stamp.participants - present.keys() - passed_over
                if partial:
                    missing &= self.tids.keys()
                if missing:
                    yield TornRecord(
                        storage,
                        position,
                        record.stamp.commit_id,
                        missing,
                        frozenset(
                            other
                            for other in missing
                            if self._may_be_packed(record.stamp, other)
                        ),
                    )

    def _may_be_packed(self, stamp: Stamp, storage: str) -> bool:
        """Whether a pack may have taken the transaction's record of that storage.

        All below its vector's entry was finished before it was stamped, so its own
        record came at or above that.  Where the whole of that was read, it would show.
        """
        packed = self.packed.get(storage)
        return packed is not None and stamp.vector.get(storage, 0) <= packed

    def coherent_limits(self, limits: Limits) -> Limits:
        """The greatest coherent limits that are at or below the ones given.

        A limit is only ever lowered where no coherent limits at or below the given
        ones can be higher.  So what is left at the end is the greatest, and it does
        not depend on the order in which the storages are looked at.
        """
        limits = dict(limits)
        # First what was never given.  A copy may end before what a record needs of
        # its storage: no limit of that storage brings it back, so that record goes,
        # and with it all behind it.  Where a storage reaches TID e, everything below
        # e + 1 is there: a record may need that much, and no more.
        for storage, needs in self._needs.items():
            for other, column in needs.items():
                # The column never falls: the records that need no more come first.
                whole = bisect_right(column, self.end(other) + 1)
                limits[storage] = min(limits[storage], whole)
        # Then what is dropped.  Only a storage whose limit was lowered can take
        # something from the others, and it takes the more the lower it is: each time
        # its limit falls, it is looked at again.
        lowered = {
            storage
            for storage, tids in self.tids.items()
            if limits[storage] < len(tids)
        }
        while lowered:
            other = lowered.pop()
            # Only ends are dropped: of this storage all below that TID is whole.
            first_dropped = self.tids[other][limits[other]]
            for storage, needs in self._needs.items():
                if other not in needs:
                    continue
                # A need is an exclusive bound: one that equals the first TID dropped
                # is met, since all below that TID is kept.
                kept = bisect_right(needs[other], first_dropped)
                if kept < limits[storage]:
                    # Its own end is shorter now, which others may not stand.
                    limits[storage] = kept
                    lowered.add(storage)
        # It ends, since limits only fall; and no record that is left needs what is
        # dropped or was not given, since that was looked at after the last fall.
        return limits

    def past_of(self, storage: str) -> Limits:
        """How much of each storage came before the end of this one.

        The transitive closure of "earlier record on a common storage" and
        "visible in the vector", where all records of a transaction share one
        past.  As limits: of every storage the first records, up to some number.
        """
        reach = dict.fromkeys(self.tids, 0)
        reach[storage] = len(self.tids[storage])
        grown = {storage} if reach[storage] else set()
        while grown:
            later = grown.pop()
            for other, column in self._needs[later].items():
                # What the last record within reach needs of the other storage holds
                # all that those before it need.  It is a bound: what is below it
                # came before, and the record with that very TID need not have.
                before = bisect_left(self.tids[other], column[reach[later] - 1])
                if before > reach[other]:
                    reach[other] = before
                    grown.add(other)
        return reach

    def all_records(self) -> Limits:
        """The limits that keep everything."""
        return {storage: len(tids) for storage, tids in self.tids.items()}

    def end(self, storage: str) -> int:
        """The last TID known of a storage: of its last record, or the base."""
        tids = self.tids[storage]
        return tids[-1] if tids else self.base[storage]

    def vector(self, limits: Limits) -> dict[str, int]:
        """The limits as {storage id: last TID kept}."""
        return {
            storage: self.tids[storage][limit - 1] if limit else self.base[storage]
            for storage, limit in limits.items()
        }


def _refuse_disorder(storage: str, held: Sequence[Record]) -> None:
    for before, after in pairwise(held):
        if after.tid <= before.tid:
            raise NotCoherent(
                f"the TIDs of storage {storage} do not rise: {to_text(after.tid)}"
                f" comes after {to_text(before.tid)}",
                "Its file is damaged, or records of two timelines were mixed.",
            )


def _find_present(
    records: Mapping[str, Sequence[Record]],
) -> dict[bytes, dict[str, int]]:
    """{commit id: {storage id: TID}}, also of records at or below the base.

    A commit id that stands twice in one storage counts with its last record: the
    two are kept or dropped together.
    """
    present: dict[bytes, dict[str, int]] = {}
    for storage, held in records.items():
        for record in held:
            if record.stamp is not None:
                present.setdefault(record.stamp.commit_id, {})[storage] = record.tid
    return present
