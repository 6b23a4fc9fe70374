"""Third phase of a restore: where every file is cut, and the cut itself."""

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.cut import CutResult, Record, coherent_cut, find_unseen
from tidstorage.coherence.loss import Loss, count_loss
from tidstorage.coherence.point import HalfCommit
from tidstorage.coherence.record import accept_half_commits
from tidstorage.coherence.tid import Vector
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import DataFile, RecordPosition, lock
from tidstorage.errors import Damaged, NotCoherent, NotReachable
from tidstorage.sets.manifest import Manifest
from tidstorage.system.clock import in_both, local
from tidstorage.verbs.moments.goal import UNVERIFIED, Goal
from tidstorage.verbs.restore.explain import explain_choices, say_strict_loss
from tidstorage.verbs.restore.plan import Choice, Policy
from tidstorage.verbs.restore.target import Target


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the files are cut.

    vector: {storage id: last TID to keep}.  floor: the vector from which that was
    judged.  damage: half commits that it keeps.  accepted: ids of those that
    somebody accepted.  left_out: what was committed by the time asked and is not
    kept.  transactions: kept above the floor.  newest: when the last of them was
    committed; None where there is none.
    """

    vector: Vector
    floor: Vector
    damage: Sequence[HalfCommit] = ()
    accepted: Collection[bytes] = ()
    left_out: Loss | None = None
    transactions: int = 0
    newest: datetime.datetime | None = None


def choose_cut(manifest: Manifest, policy: Policy) -> Vector:
    """{storage id: last TID to keep}, where it is the set's own point.

    Or, where half commits are to be left out, what is before them.
    """
    return manifest.strict if policy == "strict" else manifest.point.vector


def find_cut(cluster: Cluster, chosen: Choice, files: Mapping[str, Path]) -> Cut:
    """Find where to cut what was chosen.

    files: {storage id: a file that holds what the set holds}; more may follow.

    Raises: as `find_for_goal`.
    """
    if chosen.goal is None:
        return cut_of_set(chosen.manifest, chosen.policy)
    return find_for_goal(cluster, chosen, chosen.goal, files)


def cut_of_set(manifest: Manifest, policy: Policy) -> Cut:
    """The cut that restores a set's own point."""
    return Cut(
        choose_cut(manifest, policy),
        manifest.floor.vector if manifest.floor else {},
        manifest.point.damage if policy == "tolerant" else (),
        manifest.acknowledged,
    )


def find_for_goal(
    cluster: Cluster, chosen: Choice, goal: Goal, files: Mapping[str, Path]
) -> Cut:
    """Find the cut for a moment or a point below the set's own.

    Raises:
      NotReachable: writers without stamps came in between.
      Damaged: there are half commits, and the operator has to choose.
    """
    manifest, policy = chosen.manifest, chosen.policy
    accepted = {*chosen.accepted, *manifest.acknowledged}
    held = {
        storage: [
            *filestorage.read_records(
                path,
                goal.floor_of(storage),
                manifest.point.vector[storage],
                cluster.aliases,
            )
        ]
        for storage, path in files.items()
    }
    given = {
        storage: [record.tid for record in records] for storage, records in held.items()
    }
    bounds = {
        storage: min(last, manifest.point.vector[storage])
        for storage, last in goal.bounds(given).items()
    }
    floor = {storage: goal.floor_of(storage) for storage in files}
    records = accept_half_commits(_up_to_the_point(held, manifest), accepted)
    packed = {
        storage: filestorage.packed_up_to(path, floor[storage])
        for storage, path in files.items()
    }
    result = coherent_cut(
        records,
        floor,
        retired=cluster.retired,
        # A storage that was unknown then was named then; now is no time to refuse.
        partial=True,
        dead=[
            (half.commit_id, missing)
            for half in manifest.point.damage
            for missing in half.missing
        ],
        until=bounds,
        # The set's point was an instant: what a pack may have taken came before it.
        settled=find_unseen(records, floor, packed),
        packed=packed,
    )
    if policy == "clean" and result.half_commits:
        raise Damaged(_explain(goal, result, held, bounds), _CHOICE)
    vector = result.strict if policy == "strict" else result.tolerant
    if goal.point is None or policy == "strict":
        _refuse_unstamped(goal, held, vector)
    return Cut(
        vector,
        floor,
        result.half_commits if policy == "tolerant" else (),
        accepted,
        count_loss(held, vector, bounds),
        *_kept(held, vector),
    )


def _up_to_the_point(
    held: Mapping[str, Sequence[RecordPosition]], manifest: Manifest
) -> dict[str, list[Record]]:
    """What the set's point covers, which no transaction leaves unfinished.

    A vote that a server forgot may be its last TID, without a record.
    """
    by_storage = {
        storage: [record.record for record in records]
        for storage, records in held.items()
    }
    for storage, records in by_storage.items():
        last = manifest.point.vector[storage]
        if last and (not records or records[-1].tid < last):
            records.append(Record(last))
    return by_storage


_CHOICE = (
    "Give --strict, --tolerant, or another time; or accept the half commits"
    " (bin/cluster damage)."
)


def _explain(
    goal: Goal,
    result: CutResult,
    held: Mapping[str, Sequence[RecordPosition]],
    bounds: Vector,
) -> str:
    """What each choice loses."""
    loss = count_loss(held, result.strict, bounds)
    return explain_choices(
        f"at {in_both(goal.moment)} there are",
        result.half_commits,
        ["--tolerant keeps them", say_strict_loss(loss, goal.moment)],
    )


def _refuse_unstamped(
    goal: Goal, held: Mapping[str, Sequence[RecordPosition]], vector: Vector
) -> None:
    """Refuse a moment before which somebody wrote without stamps since the last point.

    Raises: NotReachable: where that is so: nobody can tell what fits together.
    """
    unstamped = [
        (storage, tid.to_time(record.tid))
        for storage, records in held.items()
        for record in records
        if record.stamp is None and record.tid <= vector[storage]
    ]
    if not unstamped:
        return
    storage, since = min(unstamped, key=lambda one: one[1])
    raise NotReachable(
        f"the state of {in_both(goal.moment)} cannot be restored: {UNVERIFIED};"
        f" {len(unstamped)} came after the last point before,"
        f" the first at {local(since)} in storage {storage}",
        goal.nearest or None,
    )


def _kept(
    held: Mapping[str, Sequence[RecordPosition]], vector: Vector
) -> tuple[int, datetime.datetime | None]:
    """How many transactions, and when the last one was committed."""
    kept = {
        record.stamp.commit_id if record.stamp else (storage, record.tid): record.tid
        for storage, records in held.items()
        for record in records
        if record.tid <= vector[storage]
    }
    # Compared as times only.
    return len(kept), max(map(tid.to_time, kept.values()), default=None)


def ends_before(files: Mapping[str, Path], vector: Vector) -> dict[str, int]:
    """Up to which TID nothing lies behind what is kept of each file: {storage id: TID}.

    0 where nothing is dropped.  What a process saw of an unfinished vote was
    between.

    Raises: NotCoherent: where a pack above it took what the cut needs.
    """
    ends = {}
    for storage, path in files.items():
        last = vector[storage]
        if filestorage.packed_above(path, last):
            raise NotCoherent(
                f"storage {storage} was packed above the point: what it was there"
                " is gone from the copy",
                "Choose another set (bin/cluster backups).",
            )
        first_dropped = next(filestorage.read_records(path, last), None)
        ends[storage] = first_dropped.tid - 1 if first_dropped else 0
    return ends


def find_last_kept(path: Path, last: int) -> int:
    """The TID of the last transaction of a file at or below ``last``, or 0.

    Which may be below: a server that was killed amid a vote reports its TID.
    """
    with DataFile(path) as data_file:
        kept = next(data_file.backward(data_file.boundary_after(last)), None)
    return kept.tid if kept else 0


def cut_staged(targets: Mapping[str, Target], vector: Vector) -> None:
    """Cut each staged file behind the last transaction to keep."""
    for storage, target in targets.items():
        path = target.staged_data_file
        filestorage.truncate(path, vector[storage])
        lock.path_of(path).unlink(missing_ok=True)
