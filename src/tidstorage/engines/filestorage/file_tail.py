"""What follows the floor in one Data.fs, and where it can be cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.engines import End, RecordPosition
from tidstorage.engines.filestorage.abandoned_votes import (
    AbandonedVote,
    read_abandoned_votes,
)
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.format import PACKED
from tidstorage.engines.filestorage.records import find_packed, with_stamp


@dataclass(frozen=True, slots=True)
class CutPosition:
    """Where a file is to be cut.

    tid: the last one kept, 0 where nothing is.  position: the first byte dropped.
    """

    tid: int
    position: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a cut drops of one file.

    transactions: number of finished ones.  size: bytes, with an unfinished transaction
    at the end.  first, last: TIDs of the first and last finished one, or 0.
    """

    transactions: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Tail:
    """The finished transactions of one file above its floor.

    floor: where the floor is in the file.  reaches_floor: false where the file ends
    before the floor, and not because a pack took its last transactions.
    abandoned: TIDs of votes above the floor that a server's start cut off.  end:
    of the file when it was read; a server may have gone on.  packed: above the floor
    and up to this TID, inclusive, a pack may have taken transactions away; 0: nowhere.
    """

    path: Path
    floor: CutPosition
    reaches_floor: bool
    records: Sequence[RecordPosition]
    abandoned: Sequence[int]
    end: End
    packed: int = 0

    def cut_position(self, last: int) -> CutPosition:
        """Where to cut the file so that the TID ``last`` is the last one kept."""
        kept = self.floor
        for record in self.records:
            if record.tid > last:
                break
            kept = CutPosition(record.tid, record.end)
        return kept

    def dropped_behind(self, kept: CutPosition) -> Dropped:
        """What a cut there drops."""
        dropped = [
            record for record in self.records if record.position >= kept.position
        ]
        return Dropped(
            len(dropped),
            max(0, self.end.size - kept.position),
            dropped[0].tid if dropped else 0,
            dropped[-1].tid if dropped else 0,
        )


def read_tail(path: Path, floor: int, aliases: Mapping[str, str]) -> Tail:
    """Read what follows the TID ``floor``; 0: everything.

    All through one descriptor, so that a pack meanwhile does no harm.

    Raises: FileUnreadable: where the file is missing or broken, or its TIDs do not
        rise.
    """
    with DataFile(path) as data_file:
        start = data_file.boundary_after(floor)
        before = next(data_file.backward(start), None)
        votes = sorted(read_abandoned_votes(path))
        records = [
            with_stamp(transaction, aliases)
            for transaction in data_file.ascending(start, floor)
        ]
        position = records[-1].end if records else start
        end = data_file.what_stops_at(position)
        if end is None:
            # A server finished another one meanwhile; it is not part of this.
            end = End(position, position, "clean")
    last = before.tid if before else 0
    kept = CutPosition(last, start)
    abandoned = _believed(votes, kept, records)
    reaches_floor = (
        max([last, *abandoned]) >= floor
        or bool(records)
        # A pack may have taken the file's last transactions, up to the floor.
        or (before is not None and before.status == PACKED)
    )
    above = [vote for vote in abandoned if vote > floor]
    packed = find_packed(floor, before.status if before else None, records)
    return Tail(path, kept, reaches_floor, records, above, end, packed)


def _believed(
    votes: Sequence[AbandonedVote],
    floor: CutPosition,
    records: Sequence[RecordPosition],
) -> list[int]:
    """TIDs of the votes that stood where this file has a boundary, between the TIDs.

    Others are of a file that was packed since, or is another history.
    """
    before = {floor.position: floor.tid, **{one.end: one.tid for one in records}}
    after = {one.position: one.tid for one in records}
    return [
        vote.tid
        for vote in votes
        if before.get(vote.position, vote.tid)
        < vote.tid
        < after.get(vote.position, vote.tid + 1)
    ]
