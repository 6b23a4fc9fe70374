"""Third phase of a backup: do the copies hold what K covers, and what is torn.

Read from the live files, as far as the copies go: the same bytes, uncompressed.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage import point, tid
from tidstorage.backup.copying import Copied, SourceMoved
from tidstorage.cluster import Cluster, Storage
from tidstorage.cut import CutResult, Record, coherent_cut
from tidstorage.engines import filestorage
from tidstorage.errors import FloorNeeded
from tidstorage.manifest import Loss
from tidstorage.point import HalfCommit, Point

logger = logging.getLogger(__name__)

_BLIND = "packed above the last known point, half commits in it stay unseen: %s"


@dataclass(frozen=True, slots=True)
class Examination:
    """The set's K with the damage inside, and what a strict cut would be."""

    point: Point
    strict: dict[str, int]
    strict_loss: Loss | None
    unstamped: dict[str, int]


def examine(
    cluster: Cluster,
    barrier: Mapping[str, int] | None,
    copies: Mapping[str, Copied],
    floor: Point | None,
) -> Examination:
    """Judge the copies.

    barrier: K as the barrier gave it before they were made, or None where it
    was given up; then K is the coherent cut of the copies themselves.
    SourceMoved where a copy cannot be cut back to K.
    """
    ids = {each.id for each in cluster.storages}
    given = floor.vector if floor else {}
    known = {each: last for each, last in given.items() if each in ids}
    below = {each.id: known.get(each.id, 0) for each in cluster.storages}
    blind = [
        each.id
        for each in cluster.storages
        if filestorage.packed_above(each.data_file, below[each.id])
    ]
    if barrier is None:
        _refuse_blindness(blind)
        records: Mapping[str, Sequence[Record]] = {
            each.id: _copied_records(cluster, each, copies[each.id], below[each.id])
            for each in cluster.storages
        }
        result = coherent_cut(records, known, retired=cluster.retired)
        vector, half_commits = result.tolerant, result.half_commits
        verified = not any(result.unstamped.values())
    else:
        vector = dict(barrier)
        records = {
            each.id: records_up_to(
                each.data_file, below[each.id], vector[each.id], cluster.aliases
            )
            for each in cluster.storages
        }
        if blind:
            logger.warning(_BLIND, ", ".join(blind))
            # Nothing can be said of what is gone; the barrier holds all the same.
            records = dict.fromkeys(records, ())
        result = coherent_cut(records, known, retired=cluster.retired)
        half_commits = torn_commits(records, cluster.retired)
        verified = True
    for storage in cluster.storages:
        _refuse_unreachable(storage, copies[storage.id], vector[storage.id])
    return Examination(
        point=Point(
            vector=vector,
            time=point.now(),
            source="stamps" if barrier is None else "barrier",
            timeline=floor.timeline if floor else 1,
            verified=verified,
            damage=half_commits,
        ),
        strict=_strict(result, vector, half_commits),
        strict_loss=_loss(records, result.strict, vector) if half_commits else None,
        unstamped=dict(result.unstamped),
    )


def _refuse_blindness(blind: Sequence[str]) -> None:
    if blind:
        raise FloorNeeded(
            "the barrier was given up, and packed above the last known point are: "
            + ", ".join(blind),
            "Run the backup again when the cluster is less busy.",
        )


def _copied_records(
    cluster: Cluster, storage: Storage, copied: Copied, after: int
) -> list[Record]:
    """What the copy holds above ``after``."""
    found = []
    for each in filestorage.read_records(
        storage.data_file, after, aliases=cluster.aliases
    ):
        if each.end > copied.end:
            break
        found.append(Record(each.tid, each.stamp))
    return found


def records_up_to(
    data_file: Path, after: int, until: int, aliases: Mapping[str, str]
) -> list[Record]:
    """What a storage held above ``after`` when its server's last TID was ``until``.

    A server that was killed amid a vote reports the TID of the record that its
    restart cut off as its last one, and processes saw it as that.  It stands
    here as a record without a stamp, since nothing of it can be missing.
    """
    found = [
        Record(each.tid, each.stamp)
        for each in filestorage.read_records(data_file, after, until, aliases)
    ]
    if until > after and (not found or found[-1].tid < until):
        found.append(Record(until))
    return found


def torn_commits(
    records: Mapping[str, Sequence[Record]], retired: frozenset[str]
) -> tuple[HalfCommit, ...]:
    """Stamped transactions of which a participant has no record.

    While a barrier is held no transaction is between two finishes: what is
    missing then will never come.
    """
    present: dict[bytes, dict[str, int]] = {}
    participants: dict[bytes, frozenset[str]] = {}
    for storage, held in records.items():
        for record in held:
            if record.stamp is not None:
                commit = record.stamp.commit_id
                present.setdefault(commit, {})[storage] = record.tid
                participants[commit] = record.stamp.participants - retired
    return tuple(
        HalfCommit(commit, where, tuple(sorted(participants[commit] - where.keys())))
        for commit, where in present.items()
        if participants[commit] - where.keys()
    )


def _strict(
    result: CutResult, vector: Mapping[str, int], half_commits: Sequence[HalfCommit]
) -> dict[str, int]:
    return dict(result.strict) if half_commits else dict(vector)


def _loss(
    records: Mapping[str, Sequence[Record]],
    strict: Mapping[str, int],
    vector: Mapping[str, int],
) -> Loss | None:
    """What lies above the strict cut and up to K."""
    dropped: dict[bytes | tuple[str, int], int] = {}
    for storage, held in records.items():
        for record in held:
            if strict[storage] < record.tid <= vector[storage]:
                unstamped = (storage, record.tid)
                key = record.stamp.commit_id if record.stamp else unstamped
                dropped[key] = min(record.tid, dropped.get(key, record.tid))
    if not dropped:
        return None
    # Compared as times only, to tell an operator roughly since when.
    return Loss(len(dropped), min(map(tid.to_time, dropped.values())))


def _refuse_unreachable(storage: Storage, copied: Copied, last: int) -> None:
    """SourceMoved where the copy cannot be cut to K.

    The live file is the one that was copied, unless a pack came in between; the
    copy then ends elsewhere, or holds records that the pack has changed.
    """
    if filestorage.position_after(storage.data_file, last) > copied.end:
        raise SourceMoved(f"the copy of storage {storage.id} ends before K")
    if filestorage.packed_above(storage.data_file, last):
        raise SourceMoved(f"storage {storage.id} was packed above K")
