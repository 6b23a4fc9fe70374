"""What follows the floor in each of a set of files, and its coherent cut."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tidstorage.coherence import tid
from tidstorage.coherence.cut import DeadRecord, coherent_cut
from tidstorage.coherence.point import HalfCommit, UnknownOutcome
from tidstorage.coherence.record import Record, accept_half_commits
from tidstorage.coherence.tid import Vector
from tidstorage.engines import RecordPosition
from tidstorage.engines.filestorage.file_tail import CutPosition, Tail, read_tail
from tidstorage.engines.filestorage.format import PACKED
from tidstorage.errors import FloorNeeded, NotCoherent


@dataclass(frozen=True, slots=True)
class FilesCut:
    """The coherent cuts of a set of files; see `tidstorage.coherence.cut.CutResult`.

    unknown: transactions that the tolerant cut keeps, and that may be whole or not.
    """

    tails: Mapping[str, Tail]
    strict: Mapping[str, CutPosition]
    tolerant: Mapping[str, CutPosition]
    half_commits: Sequence[HalfCommit]
    undecided: Sequence[HalfCommit]
    unstamped: Mapping[str, int]
    unknown: Sequence[UnknownOutcome] = ()


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
    over_packs: bool = False,
) -> FilesCut:
    """The coherent cuts of {storage id: its file}, live or at rest.

    floor: {storage id: last TID of a known coherent cut}; without an entry, all
    of that file is examined.  known_damage: half commits whose proof may not be
    in the files.  accepted: commit ids of half commits that are taken as if
    they had been meant for no other storages than those that hold them.  ends:
    {storage id: TID}: up to it there never was another record, as where the ones
    that followed were cut off.  over_packs: only look, also at files that were packed
    above the floor: what such a pack may have taken is unknown.

    Raises:
      FloorNeeded: where a file holds packed transactions above the floor, unless
        ``over_packs``, or a record that seems to be missing may be below one
      NotCoherent: where a file ends before its floor
      UnknownStorage: where a stamp or the floor names a storage that is neither among
        the files nor retired, unless ``partial``
      FileUnreadable: where a file is missing or broken
    """
    known = known_floor(paths, floor, partial)
    tails = {
        storage: read_tail(path, known.get(storage, 0), aliases)
        for storage, path in paths.items()
    }
    for storage, tail in tails.items():
        if not over_packs:
            _refuse_packed(storage, tail, storage in known)
        if not tail.reaches_floor:
            refuse_short(storage, tail.path, tail.floor.tid, known[storage])
    refuse_unseen_partners(tails, known)
    unwritten = {
        storage: _unwritten(tail, (ends or {}).get(storage, 0))
        for storage, tail in tails.items()
    }
    result = coherent_cut(
        accept_half_commits(
            {
                storage: _records(tail, unwritten[storage])
                for storage, tail in tails.items()
            },
            accepted,
        ),
        known,
        retired=retired,
        partial=partial,
        dead=known_damage_as_dead(known_damage),
        packed={storage: tail.packed for storage, tail in tails.items()},
    )
    return FilesCut(
        tails,
        _cut_positions(tails, result.strict),
        _cut_positions(tails, result.tolerant),
        result.half_commits,
        result.undecided,
        {
            storage: result.unstamped[storage]
            - sum(last <= result.tolerant[storage] for last in unwritten[storage])
            for storage in tails
        },
        result.unknown,
    )


def _cut_positions(tails: Mapping[str, Tail], vector: Vector) -> dict[str, CutPosition]:
    return {
        storage: tail.cut_position(vector[storage]) for storage, tail in tails.items()
    }


def known_floor(
    paths: Mapping[str, Path], floor: Vector, partial: bool
) -> dict[str, int]:
    """The floor, but for storages that are not given where only a part is looked at."""
    return {
        storage: last
        for storage, last in floor.items()
        if storage in paths or not partial
    }


def known_damage_as_dead(known_damage: Collection[HalfCommit]) -> list[DeadRecord]:
    """The records that known half commits will never get."""
    return [
        (half.commit_id, storage) for half in known_damage for storage in half.missing
    ]


def refuse_short(storage: str, path: Path, last: int, floor: int) -> NoReturn:
    """Say that a file ends before its floor.

    Raises: NotCoherent: always.
    """
    raise NotCoherent(
        f"{path} ends before the floor: its last transaction is"
        f" {tid.to_text(last)}, the floor of storage {storage} is"
        f" {tid.to_text(floor)}",
        "It is older than the floor; name an older one with --floor.",
    )


def _unwritten(tail: Tail, end: int) -> Sequence[int]:
    """TIDs that others may have seen, and that belong to no record."""
    last = max([tail.floor.tid, *(held.tid for held in tail.records), *tail.abandoned])
    return [*tail.abandoned, end] if end > last else tail.abandoned


def _records(tail: Tail, unwritten: Sequence[int]) -> list[Record]:
    """What the cut is computed from; nothing can be missing of what is unwritten."""
    return sorted(
        [*(held.record for held in tail.records), *map(Record, unwritten)],
        key=lambda record: record.tid,
    )


def refuse_unseen_partners(tails: Mapping[str, Tail], floor: Vector) -> None:
    """Refuse records that seem to be missing, and may be below a floor.

    So it is only where a storage without a floor was there before the floor: it was
    taken out of the description and put back.  What is missing of a storage that is
    new was to come after what its writer knew, and that was above the floor.

    Raises: FloorNeeded: where there is such a record.
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
        held.stamp and held.stamp.commit_id == commit_id for held in tail.records
    )


def _refuse_packed(storage: str, tail: Tail, has_floor: bool) -> None:
    packed = [held.tid for held in tail.records if held.status == PACKED]
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
