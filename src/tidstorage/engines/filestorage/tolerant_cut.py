"""The tolerant cut of a set of files, read from their ends, no further than needed.

`tidstorage.coherence.tail` tells how far that is and proves that it is enough.  The
proof is about files of one timeline: that of files in which a Zope went on over a
restore, and whose clock was set back since, only `cut_files` can tell.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.coherence import tid
from tidstorage.coherence.point import HalfCommit
from tidstorage.coherence.record import Record
from tidstorage.coherence.tail import tail_cut
from tidstorage.coherence.tid import Vector
from tidstorage.engines import End, RecordPosition
from tidstorage.engines.filestorage.abandoned_votes import read_abandoned_votes
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.file_tail import CutPosition, Tail
from tidstorage.engines.filestorage.files_cut import (
    known_damage_as_dead,
    known_floor,
    refuse_short,
    refuse_unseen_partners,
)
from tidstorage.engines.filestorage.format import PACKED, START, Transaction
from tidstorage.engines.filestorage.records import find_packed, with_stamp
from tidstorage.errors import FileUnreadable, FloorNeeded

_HINT = "Leave out --tolerant, or name a floor above the pack with --floor."


@dataclass(frozen=True, slots=True)
class TolerantCut:
    """The tolerant cut of a set of files; see `tidstorage.coherence.tail.TailCut`.

    tails: of each file no more than what was read.
    """

    tails: Mapping[str, Tail]
    tolerant: Mapping[str, CutPosition]
    half_commits: Sequence[HalfCommit]


def cut_from_the_ends(
    paths: Mapping[str, Path],
    floor: Vector,
    *,
    aliases: Mapping[str, str],
    retired: Collection[str] = (),
    partial: bool = False,
    known_damage: Collection[HalfCommit] = (),
) -> TolerantCut:
    """The tolerant cut that `cut_files` gives for the same, where both give one.

    The arguments are those of `cut_files`.

    Raises:
      FloorNeeded: where a packed transaction above the floor would have to be read,
        or is the next behind what was read
      NotCoherent: where a file ends before its floor
      UnknownStorage: where what was read names a storage that is not among the files
      FileUnreadable: where what was read is broken
    """
    known = known_floor(paths, floor, partial)
    with contextlib.ExitStack() as stack:
        readers = {
            storage: _BackwardReader(
                storage,
                stack.enter_context(DataFile(path)),
                known.get(storage, 0),
                aliases,
            )
            for storage, path in paths.items()
        }
        packed: dict[str, int] = {}
        result = tail_cut(
            {storage: reader.records(packed) for storage, reader in readers.items()},
            known,
            retired=retired,
            partial=partial,
            dead=known_damage_as_dead(known_damage),
            packed=packed,
        )
        tails = {storage: reader.tail() for storage, reader in readers.items()}
    refuse_unseen_partners(tails, known)
    return TolerantCut(
        tails,
        {
            storage: tail.cut_position(result.tolerant[storage])
            for storage, tail in tails.items()
        },
        result.half_commits,
    )


class _BackwardReader:
    """Gives the records of one file above its floor, the last one first.

    Remembers what it read, and where it stands in the file.
    """

    def __init__(
        self,
        storage: str,
        data_file: DataFile,
        floor: int,
        aliases: Mapping[str, str],
    ) -> None:
        self._storage = storage
        self._file = data_file
        self._floor = floor
        self._aliases = aliases
        self._votes = sorted(read_abandoned_votes(data_file.path), reverse=True)
        self._read: list[RecordPosition] = []
        self._abandoned: list[int] = []
        #: Behind the oldest transaction that was read, also at or below the floor.
        self._oldest = CutPosition(0, START)
        self._end: int | None = None

    def records(self, packed: dict[str, int]) -> Iterator[Record]:
        """What the cut is computed from, abandoned votes included.

        packed: is told, at the end, up to which TID a pack may have taken records away.
        """
        for transaction in self._file.backward():
            self._oldest = CutPosition(transaction.tid, transaction.end)
            if self._end is None:
                self._end = transaction.end
            # A vote that was cut off here came later than this transaction.
            yield from self._votes_behind(self._oldest)
            if transaction.tid <= self._floor:
                self._refuse_end_before_the_floor(transaction)
                packed[self._storage] = self._find_packed(transaction.status)
                return
            self._refuse(transaction)
            record = with_stamp(transaction, self._aliases)
            self._read.append(record)
            yield record.record
        self._oldest = CutPosition(0, START)
        yield from self._votes_behind(self._oldest)
        self._refuse_end_before_the_floor(None)
        packed[self._storage] = self._find_packed(None)

    def _find_packed(self, before: str | None) -> int:
        """As `find_packed`, once all above the floor was read: none of it is marked."""
        return find_packed(self._floor, before, self._read[-1:])

    def _votes_behind(self, before: CutPosition) -> Iterator[Record]:
        """Those that stood between a transaction and the one read before it."""
        after = self._read[-1].tid if self._read else None
        for vote in self._votes:
            if vote.position != before.position or vote.tid <= before.tid:
                continue
            if vote.tid > self._floor and (after is None or vote.tid < after):
                self._abandoned.append(vote.tid)
                yield Record(vote.tid)

    def _refuse(self, transaction: Transaction) -> None:
        if self._read and transaction.tid >= self._read[-1].tid:
            raise FileUnreadable(
                f"{self._file.path}: TIDs go backwards at byte"
                f" {self._read[-1].position}"
            )
        if transaction.status == PACKED:
            raise FloorNeeded(
                f"storage {self._storage} was packed up to"
                f" {tid.to_text(transaction.tid)}, and what was there below would"
                f" have to be read: it is gone from {self._file.path}",
                _HINT,
            )

    def _refuse_end_before_the_floor(self, last: Transaction | None) -> None:
        if self._read:
            return
        votes = [
            vote.tid for vote in self._votes if vote.position == self._oldest.position
        ]
        reached = max([self._oldest.tid, *votes])
        packed = last is not None and last.status == PACKED
        if reached < self._floor and not packed:
            refuse_short(self._storage, self._file.path, self._oldest.tid, self._floor)

    def tail(self) -> Tail:
        """What was read of the file."""
        position = START if self._end is None else self._end
        end = self._file.what_stops_at(position)
        return Tail(
            self._file.path,
            self._oldest,
            True,
            self._read[::-1],
            self._abandoned[::-1],
            # A server may have finished another one meanwhile; it is no part of this.
            end or End(position, position, "clean"),
        )
