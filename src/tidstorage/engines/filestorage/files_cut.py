"""What follows the floor in each of a set of files, and its coherent cut."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.coherence import tid
from tidstorage.coherence.cut import coherent_cut
from tidstorage.coherence.point import HalfCommit
from tidstorage.coherence.record import Record, accepting
from tidstorage.coherence.tid import Vector
from tidstorage.engines import End, RecordPosition
from tidstorage.engines.filestorage.abandoned_votes import (
    AbandonedVote,
    abandoned_votes,
)
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.format import PACKED
from tidstorage.engines.filestorage.records import with_stamp
from tidstorage.errors import FloorNeeded, NotCoherent


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
    abandoned = _believed(votes, kept, records)
    reaches_floor = (
        max([last, *abandoned]) >= floor
        or bool(records)
        or (before is not None and before.status == PACKED)
    )
    above = [each for each in abandoned if each > floor]
    return Tail(path, kept, reaches_floor, records, above, end)


def _believed(
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


@dataclass(frozen=True, slots=True)
class FilesCut:
    """The coherent cuts of a set of files; see `tidstorage.coherence.cut.CutResult`."""

    tails: Mapping[str, Tail]
    strict: Mapping[str, Place]
    tolerant: Mapping[str, Place]
    half_commits: Sequence[HalfCommit]
    undecided: Sequence[HalfCommit]
    unstamped: Mapping[str, int]


def cut_files(
    paths: Mapping[str, Path],
    floor: Vector,
    *,
    aliases: Mapping[str, str],
    retired: Collection[str] = (),
    partial: bool = False,
    known_damage: Collection[HalfCommit] = (),
    accepted: Collection[bytes] = (),
    ends: Vector | None = None,
) -> FilesCut:
    """The coherent cuts of {storage id: its file}, live or at rest.

    floor: {storage id: last TID of a known coherent cut}; without an entry, all
    of that file is examined.  known_damage: half commits whose proof may not be
    in the files.  accepted: ids of half commits that are taken as if
    they had been meant for no other storages than those that hold them.  ends:
    {storage id: TID}: up to it there never was another record, as where the ones
    that followed were cut off.

    FloorNeeded where a file holds packed transactions above the floor; NotCoherent
    where one ends before it; UnknownStorage where a stamp names a storage that is
    not among them, unless ``partial``; FileUnreadable.
    """
    known = {
        storage: last
        for storage, last in floor.items()
        if storage in paths or not partial
    }
    tails = {
        storage: read_tail(path, known.get(storage, 0), aliases)
        for storage, path in paths.items()
    }
    for storage, tail in tails.items():
        _refuse_packed(storage, tail, storage in known)
        if not tail.reaches_floor:
            raise NotCoherent(
                f"{tail.path} ends before the floor: its last transaction is"
                f" {tid.to_text(tail.floor.tid)}, the floor of storage {storage} is"
                f" {tid.to_text(known[storage])}",
                "It is older than the floor; name an older one with --floor.",
            )
    _refuse_unseen_partners(tails, known)
    unwritten = {
        storage: _unwritten(tail, (ends or {}).get(storage, 0))
        for storage, tail in tails.items()
    }
    result = coherent_cut(
        accepting(
            {
                storage: _records(tail, unwritten[storage])
                for storage, tail in tails.items()
            },
            accepted,
        ),
        known,
        retired=retired,
        partial=partial,
        dead=[
            (half.commit_id, storage)
            for half in known_damage
            for storage in half.missing
        ],
    )
    return FilesCut(
        tails,
        {each: tail.place(result.strict[each]) for each, tail in tails.items()},
        {each: tail.place(result.tolerant[each]) for each, tail in tails.items()},
        result.half_commits,
        result.undecided,
        {
            storage: result.unstamped[storage]
            - sum(each <= result.tolerant[storage] for each in unwritten[storage])
            for storage in tails
        },
    )


def _unwritten(tail: Tail, end: int) -> Sequence[int]:
    """TIDs that others may have seen, and that belong to no record."""
    last = max([tail.floor.tid, *(each.tid for each in tail.records), *tail.abandoned])
    return [*tail.abandoned, end] if end > last else tail.abandoned


def _records(tail: Tail, unwritten: Sequence[int]) -> list[Record]:
    """What the cut is computed from; nothing can be missing of what is unwritten."""
    return sorted(
        [*(each.record for each in tail.records), *map(Record, unwritten)],
        key=lambda each: each.tid,
    )


def _refuse_unseen_partners(tails: Mapping[str, Tail], floor: Vector) -> None:
    """FloorNeeded where a record that seems to be missing may be below a floor.

    Only of a storage without a floor, that was there before: it was taken out of
    the description and put back.  What is missing of one that is new was to come
    after what its writer knew, and that was above the floor.
    """
    for storage in tails.keys() - floor.keys():
        for record in tails[storage].records:
            for other in _unseen_partners(record, tails, floor):
                raise FloorNeeded(
                    f"storage {storage} is not in the floor, and its transaction"
                    f" {tid.to_text(record.tid)} may have a record below the floor of"
                    f" storage {other}"
                )


def _unseen_partners(
    record: RecordPosition, tails: Mapping[str, Tail], floor: Vector
) -> list[str]:
    stamp = record.stamp
    if stamp is None:
        return []
    return [
        other
        for other in sorted(stamp.participants & floor.keys() & tails.keys())
        if stamp.vector.get(other, 0) <= floor[other]
        and not _holds(tails[other], stamp.commit_id)
    ]


def _holds(tail: Tail, commit_id: bytes) -> bool:
    return any(
        each.stamp and each.stamp.commit_id == commit_id for each in tail.records
    )


def _refuse_packed(storage: str, tail: Tail, has_floor: bool) -> None:
    packed = [each.tid for each in tail.records if each.status == PACKED]
    if not packed:
        return
    what = (
        f"storage {storage} was packed above the floor, up to"
        if has_floor
        else f"storage {storage} was packed, up to"
    )
    raise FloorNeeded(
        f"{what} {tid.to_text(packed[-1])}: what was there below is gone from"
        f" {tail.path}"
    )
