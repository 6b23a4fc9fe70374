"""Third phase of a backup: do the copies hold what K covers, and what is torn.

Read from the live files, as far as the copies go: the same bytes, uncompressed.
"""

import datetime
import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.coherence import tid
from tidstorage.coherence.cut import CutResult, DeadRecord, Record, coherent_cut
from tidstorage.coherence.loss import Loss, count_loss
from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.coherence.record import accept_half_commits, commit_ids
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage.records import records_up_to
from tidstorage.errors import FloorNeeded, UnknownStorage
from tidstorage.points import accepted as acceptance
from tidstorage.verbs.backup.copying import Copied
from tidstorage.verbs.backup.moved import SourceMoved

logger = logging.getLogger(__name__)

_BLIND = "packed above the last known point, half commits in it stay unseen: %s"


@dataclass(frozen=True, slots=True)
class Examination:
    """The set's K with the damage inside, and what a strict cut would be.

    acknowledged: half commits above the floor that somebody has accepted.
    """

    point: Point
    strict: dict[str, int]
    strict_loss: Loss | None
    unstamped: dict[str, int]
    acknowledged: tuple[bytes, ...]


def examine(
    cluster: Cluster,
    barrier: Mapping[str, int] | None,
    moment: datetime.datetime,
    copies: Mapping[str, Copied],
    floor: Point | None,
) -> Examination:
    """Judge the copies.

    barrier: K as the barrier gave it at that moment, before they were made, or
    None where it was given up; then K is the coherent cut of the copies.
    SourceMoved where a copy cannot be cut back to K.
    """
    below = _known_floor(cluster, floor)
    blind = [
        each.id
        for each in cluster.storages
        if filestorage.packed_above(each.data_file, below[each.id])
    ]
    accepted = acceptance.commit_ids(cluster)
    if barrier is None:
        _refuse_blindness(blind)
        judged = _by_stamps(cluster, copies, below, accepted)
    else:
        judged = _by_barrier(cluster, barrier, below, blind, accepted)
    vector = judged.vector
    for storage in cluster.storages:
        _refuse_unreachable(storage, copies[storage.id], vector[storage.id])
    strict = judged.strict if judged.half_commits else vector
    return Examination(
        point=Point(
            vector=vector,
            time=moment,
            source="stamps" if barrier is None else "barrier",
            timeline=floor.timeline if floor else 1,
            verified=judged.verified,
            damage=judged.half_commits,
        ),
        strict=strict,
        strict_loss=count_loss(judged.records, strict, vector),
        unstamped=judged.unstamped,
        acknowledged=tuple(sorted(accepted & commit_ids(judged.records))),
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    records: Mapping[str, Sequence[Record]]
    vector: dict[str, int]
    strict: dict[str, int]
    half_commits: tuple[HalfCommit, ...]
    unstamped: dict[str, int]
    verified: bool


def _known_floor(cluster: Cluster, floor: Point | None) -> dict[str, int]:
    """The floor for every storage; 0 where nothing is known."""
    given = cluster.present_ids(floor.vector) if floor else {}
    return {each.id: given.get(each.id, 0) for each in cluster.storages}


def _by_stamps(
    cluster: Cluster,
    copies: Mapping[str, Copied],
    below: Mapping[str, int],
    accepted: Collection[bytes],
) -> _Judged:
    """K is the tolerant cut of what the copies hold."""
    copied = {
        each.id: _copied_records(cluster, each, copies[each.id], below[each.id])
        for each in cluster.storages
    }
    records = accept_half_commits(copied, accepted)
    result = coherent_cut(records, below, retired=cluster.retired)
    return _Judged(
        records,
        result.tolerant,
        result.strict,
        result.half_commits,
        result.unstamped,
        not any(result.unstamped.values()),
    )


def _by_barrier(
    cluster: Cluster,
    barrier: Mapping[str, int],
    below: Mapping[str, int],
    blind: Sequence[str],
    accepted: Collection[bytes],
) -> _Judged:
    """K is the barrier's vector, and what is torn in it is dead.

    While a barrier is held no transaction is between two finishes: what a
    transaction misses then will never come.
    """
    records: Mapping[str, Sequence[Record]] = {
        each.id: records_up_to(
            each.data_file, below[each.id], barrier[each.id], cluster.aliases
        )
        for each in cluster.storages
    }
    if blind:
        # Nothing can be said of what is gone; the barrier holds all the same.
        logger.warning(_BLIND, ", ".join(blind))
        records = dict.fromkeys(records, ())
    records = accept_half_commits(records, accepted)
    cut = functools.partial(_cut, records, below, cluster.retired)
    undecided = cut(()).undecided
    result = cut(
        {(each.commit_id, other) for each in undecided for other in each.missing}
    )
    vector = dict(barrier)
    if not blind:
        _hold_back(vector, result.tolerant, below)
    return _Judged(
        records,
        vector,
        {each: min(last, result.strict[each]) for each, last in vector.items()},
        result.half_commits,
        result.unstamped,
        vector == barrier and all(last >= below[each] for each, last in vector.items()),
    )


def _hold_back(
    vector: dict[str, int], coherent: Mapping[str, int], below: Mapping[str, int]
) -> None:
    """Lower the vector where a record saw what its storage never had.

    No instant can look like that: a process has been running since before a
    restore, and commits what it knows of a timeline that is lost.
    """
    for storage, last in coherent.items():
        if vector[storage] < below[storage]:
            logger.warning(
                "storage %s ends before the last known point: restored by hand?",
                storage,
            )
        elif last < vector[storage]:
            logger.warning(
                "storage %s holds transactions that saw what is not there: is a Zope"
                " still running that was started before a restore? The set ends"
                " before them, at %s",
                storage,
                tid.to_text(last),
            )
            vector[storage] = last


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


def _cut(
    records: Mapping[str, Sequence[Record]],
    below: Mapping[str, int],
    retired: frozenset[str],
    dead: Collection[DeadRecord],
) -> CutResult:
    """The coherent cut; stamps that name unknown storages are passed over aloud.

    The barrier's K does not rest on stamps: what is wrong with them is no reason
    to go without a backup.
    """
    try:
        return coherent_cut(records, below, retired=retired, dead=dead)
    except UnknownStorage as error:
        logger.warning("%s", error)
        return coherent_cut(records, below, retired=retired, dead=dead, partial=True)


def _refuse_unreachable(storage: Storage, copied: Copied, last: int) -> None:
    """SourceMoved where the copy cannot be cut to K.

    The live file is the one that was copied, unless a pack came in between; the
    copy then ends elsewhere, or holds records that the pack has changed.
    """
    if filestorage.position_after(storage.data_file, last) > copied.end:
        raise SourceMoved(f"the copy of storage {storage.id} ends before K")
    if filestorage.packed_above(storage.data_file, last):
        raise SourceMoved(f"storage {storage.id} was packed above K")
