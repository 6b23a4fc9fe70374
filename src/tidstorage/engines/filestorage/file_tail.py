"""What follows the floor in one Data.fs, and where it can be cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.engines import End, RecordPosition
from tidstorage.engines.filestorage.abandoned_votes import (
    AbandonedVote,
    abandoned_votes,
)
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.format import PACKED
from tidstorage.engines.filestorage.records import with_stamp


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is to be cut: the last TID kept, the first byte dropped."""

    tid: int
    position: int


@dataclass(frozen=True, slots=True)
class Lost:
    """What a cut drops.

    transactions: finished ones.  size: bytes, with an unfinished transaction at
    the end.  first, last: TIDs of the first and last finished one, or 0.
    """

    transactions: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Tail:
    """The finished transactions of one file above its floor.

    floor: the place the floor has in the file.  reaches_floor: false where the
    file ends before the floor, and not because a pack took its last transactions.
    abandoned: TIDs of votes above the floor that a server's start cut off.  end:
    of the file when it was read; a server may have gone on.
    """

    path: Path
    floor: Place
    reaches_floor: bool
    records: Sequence[RecordPosition]
    abandoned: Sequence[int]
    end: End

    def place(self, last: int) -> Place:
        """Where the file has to be cut so that ``last`` is the last TID kept."""
        kept = self.floor
        for record in self.records:
            if record.tid > last:
                break
            kept = Place(record.tid, record.end)
        return kept

    def lost(self, place: Place) -> Lost:
        """What a cut there drops."""
        dropped = [each for each in self.records if each.position >= place.position]
        return Lost(
            len(dropped),
            self.end.size - place.position if self.end.size > place.position else 0,
            dropped[0].tid if dropped else 0,
            dropped[-1].tid if dropped else 0,
        )


def read_tail(path: Path, floor: int, aliases: Mapping[str, str]) -> Tail:
    """Read what follows the TID ``floor``; 0: everything.

    All through one descriptor, so that a pack meanwhile does no harm.
    """
    with DataFile(path) as data_file:
        start = data_file.boundary_after(floor)
        before = next(data_file.backward(start), None)
        votes = sorted(abandoned_votes(path))
        records = [
            with_stamp(each, aliases) for each in data_file.ascending(start, floor)
        ]
        position = records[-1].end if records else start
        end = data_file.what_stops_at(position)
        if end is None:
            # A server finished another one meanwhile; it is not part of this.
            end = End(position, position, "clean")
    last = before.tid if before else 0
    kept = Place(last, start)
    abandoned = believed_votes(votes, kept, records)
    reaches_floor = (
        max([last, *abandoned]) >= floor
        or bool(records)
        or (before is not None and before.status == PACKED)
    )
    above = [each for each in abandoned if each > floor]
    return Tail(path, kept, reaches_floor, records, above, end)


def believed_votes(
    votes: Sequence[AbandonedVote], floor: Place, records: Sequence[RecordPosition]
) -> list[int]:
    """TIDs of the votes that stood where this file has a boundary, between the TIDs.

    Others are of a file that was packed since, or is another history.
    """
    before = {floor.position: floor.tid, **{each.end: each.tid for each in records}}
    after = {each.position: each.tid for each in records}
    return [
        vote.tid
        for vote in votes
        if before.get(vote.position, vote.tid)
        < vote.tid
        < after.get(vote.position, vote.tid + 1)
    ]
