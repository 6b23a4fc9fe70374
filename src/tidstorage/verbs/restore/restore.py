"""A whole restore: the phases in their order, and what happens when one fails."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import lock as file_lock
from tidstorage.errors import UnknownStorage, WrongStorages
from tidstorage.operation import lock, progress
from tidstorage.operation.progress import Operation, Show, show_nothing
from tidstorage.operation.unfinished import interrupted_swap, plan_beside, swap_journal
from tidstorage.points import known_files, timelines
from tidstorage.processes.running import refuse_running
from tidstorage.sets import history
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock, private_files
from tidstorage.verbs.restore import (
    assemble,
    effort,
    mark,
    plan,
    reuse,
    staging,
    swap,
    target,
)
from tidstorage.verbs.restore.cutting import Cut
from tidstorage.verbs.restore.outcome import (
    Ended,
    Preview,
    Restored,
    RestoredElsewhere,
    ToBeEnded,
)
from tidstorage.verbs.restore.plan import Choice, Request
from tidstorage.verbs.restore.swap import Action, Swap
from tidstorage.verbs.restore.target import Target


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """Which set is restored to where: shown by `preview`, or performed.

    timeline: the number of the one that begins, or goes on, with it.  candidates:
    ids of storages whose present files may begin with what the set holds.
    """

    cluster: Cluster
    chosen: Choice
    targets: Mapping[str, Target]
    timeline: int
    candidates: frozenset[str] = frozenset()


def plan_in_place(cluster: Cluster, request: Request) -> RestorePlan:
    """How to restore over the cluster's own files; nothing is changed.

    Raises: as `plan.choose`, and NotCoherent: where the set is of other storages.
    """
    chosen = plan.choose(cluster, request)
    targets = _targets(cluster, chosen.manifest)
    return RestorePlan(
        cluster,
        chosen,
        targets,
        _next_timeline(cluster, chosen),
        frozenset(reuse.possible(chosen.manifest, targets) if request.reuse else ()),
    )


def plan_elsewhere(cluster: Cluster, request: Request, directory: Path) -> RestorePlan:
    """How to restore into an empty folder; nothing is changed.

    Raises: as `plan.choose`, and UnknownStorage: where the set has none of that id.
    """
    return _plan_elsewhere(cluster, plan.choose(cluster, request), directory)


def _plan_elsewhere(cluster: Cluster, chosen: Choice, directory: Path) -> RestorePlan:
    targets = _targets_elsewhere(chosen, directory)
    return RestorePlan(cluster, chosen, targets, chosen.manifest.point.timeline)


def restore_in_place(
    cluster: Cluster, request: Request, show: Show = show_nothing
) -> Restored | Ended:
    """Restore over the cluster's own files, which are kept under other names.

    Any error before the swap leaves everything as it was; a swap that was
    interrupted is brought to its end instead, whatever is asked for.  show: told
    how far it is (`tidstorage.operation.progress`).

    Raises: ClusterRunning: while any part of the cluster is up.
    """
    with (
        lock.hold(cluster, "restore"),
        lock.hold_directory(cluster.backup.directory, "restore"),
        progress.operation(cluster, "restore", show) as operation,
    ):
        refuse_running(cluster)
        with _data_files_locked(cluster):
            if journal := interrupted_swap(cluster):
                return _end_swap(cluster, journal)
            return _perform(plan_in_place(cluster, request), operation)


def _perform(planned: RestorePlan, operation: Operation) -> Restored:
    cluster, chosen, targets = planned.cluster, planned.chosen, planned.targets
    target.remove_staging(targets.values())
    reused: frozenset[str] = frozenset()
    if planned.candidates:
        reused = staging.reusable(
            cluster, chosen, targets, planned.candidates, operation
        )
    staged = staging.stage(cluster, chosen, targets, operation, reused)
    point = staging.end_with_files(
        _new_point(chosen, staged.cut, planned.timeline), staged.files
    )
    moment = target.unused_moment(targets.values())
    actions = [
        action
        for storage, where in targets.items()
        for action in (
            where.cutting_actions(moment, staged.cut.vector[storage])
            if storage in reused
            else where.actions(moment)
        )
    ]
    keeps = any(action.kind == "keep" for action in actions)
    actions += _removals(cluster)
    data_files = [storage.data_file for storage in cluster.storages]
    new_files = Swap(1, chosen.manifest.id, actions, point, data_files)
    journal = swap_journal(cluster)
    with staging.nothing_left_of_a_failure(targets):
        for where in targets.values():
            where.give_to_owners()
        swap.write(new_files, journal)
    swap.finish(new_files, journal, lambda: _note_files(cluster))
    return Restored(
        chosen=chosen,
        point=point,
        cut=staged.cut,
        sizes=staged.sizes,
        last_tids=_last_tids(targets),
        kept=f"{target.KEPT}{moment}" if keeps else None,
        reused=reused,
        dropped=f"{target.DROPPED}{moment}" if reused else None,
    )


def restore_elsewhere(
    cluster: Cluster, request: Request, directory: Path, show: Show = show_nothing
) -> RestoredElsewhere:
    """Restore into an empty folder: ``<id>/Data.fs`` and ``<id>/blobs`` each.

    show: told how far it is (`tidstorage.operation.progress`).
    """
    with (
        lock.hold(cluster, "restore"),
        lock.hold_directory(cluster.backup.directory, "restore"),
        progress.operation(cluster, "restore", show) as operation,
    ):
        chosen = plan.choose(cluster, request)
        mark.clear(directory)
        planned = _plan_elsewhere(cluster, chosen, directory)
        targets = planned.targets
        mark.mark(directory, targets)
        try:
            staged = staging.stage(cluster, chosen, targets, operation)
            point = staging.end_with_files(
                _new_point(chosen, staged.cut, planned.timeline), staged.files
            )
            actions = [
                action for where in targets.values() for action in where.actions("")
            ]
            data_files = [where.data_file for where in targets.values()]
            swap.execute(Swap(1, chosen.manifest.id, actions, point, data_files))
        except BaseException:
            # It was empty or missing, and is to be empty for the next attempt.
            for where in targets.values():
                if where.data_file.parent.exists():
                    shutil.rmtree(where.data_file.parent)
            mark.unmark(directory)
            raise
        mark.unmark(directory)
        return RestoredElsewhere(
            chosen=chosen,
            point=point,
            cut=staged.cut,
            directory=directory,
            sizes=staged.sizes,
            last_tids=_last_tids(targets),
        )


def preview_in_place(cluster: Cluster, request: Request) -> Preview | ToBeEnded:
    """What `restore_in_place` would do; the cluster may be up."""
    if journal := interrupted_swap(cluster):
        begun = swap.read(journal)
        return ToBeEnded(set_id=begun.set_id, point=begun.point)
    return preview(plan_in_place(cluster, request))


def preview(planned: RestorePlan) -> Preview:
    """What performing the plan would do, and take; nothing is changed.

    Raises: NoSpace: where what has to be written cannot fit.
    """
    cluster, chosen, targets = planned.cluster, planned.chosen, planned.targets
    assemble.refuse_lack_of_space(chosen.manifest, targets, planned.candidates)
    cut = effort.preview_cut(cluster, chosen, targets)
    least = cut
    if least is None:
        # Only the copies themselves tell more: here is the least that they hold.
        assert chosen.goal is not None
        floor = chosen.goal.floor.vector if chosen.goal.floor else {}
        least = Cut(floor, floor)
    return Preview(
        chosen=chosen,
        point=_new_point(chosen, least, planned.timeline),
        cut=cut,
        sizes={storage: chosen.manifest.storage(storage).size for storage in targets},
        reused=planned.candidates,
        effort=effort.estimate(cluster, chosen, targets, planned.candidates),
    )


@contextlib.contextmanager
def _data_files_locked(cluster: Cluster) -> Iterator[None]:
    """Hold the locks that FileStorage takes: nobody has the files, nobody gets them."""
    with contextlib.ExitStack() as stack:
        for storage in cluster.storages:
            private_files.make_folder(storage.data_file.parent)
            stack.enter_context(file_lock.held(storage.data_file))
        yield


def _targets(cluster: Cluster, manifest: Manifest) -> dict[str, Target]:
    """The cluster's own files: {storage id: its target}.

    Raises: NotCoherent: where the set is of other storages.
    """
    stored = {storage.id for storage in manifest.storages}
    present = {storage.id for storage in cluster.storages}
    if missing := present - stored:
        raise WrongStorages(
            f"set {manifest.id} has no storage {', '.join(sorted(missing))}",
            "It was made before that was added; restore with the description of then.",
        )
    if unknown := stored - present - cluster.retired:
        raise WrongStorages(
            f"set {manifest.id} has storages that the cluster has not:"
            f" {', '.join(sorted(unknown))}",
            "List them in cluster.toml as storages, or under [[retired-storage]].",
        )
    for storage in cluster.storages:
        if manifest.storage(storage.id).blob_count and not storage.blob_directory:
            raise WrongStorages(
                f"set {manifest.id} has blobs of storage {storage.id}, which is"
                " described without",
                "Give it blobs = true in cluster.toml, or restore with --into.",
            )
    return target.targets_in_place(cluster)


def _targets_elsewhere(chosen: Choice, directory: Path) -> dict[str, Target]:
    has_blobs = {
        storage.id: storage.blob_lists is not None
        for storage in chosen.manifest.storages
    }
    wanted = has_blobs.keys() if chosen.storages is None else chosen.storages
    if unknown := wanted - has_blobs.keys():
        raise UnknownStorage(
            f"set {chosen.manifest.id} has no storage {', '.join(sorted(unknown))}",
            f"It has {', '.join(sorted(has_blobs))}.",
        )
    return target.targets_elsewhere(
        directory, {storage: has_blobs[storage] for storage in wanted}
    )


def _last_tids(targets: Mapping[str, Target]) -> dict[str, int]:
    return {
        storage: filestorage.last_tid(where.data_file)
        for storage, where in targets.items()
    }


def _next_timeline(cluster: Cluster, chosen: Choice) -> int:
    known = timelines.highest(
        (storage.data_file for storage in cluster.storages),
        cluster.daemon.journal,
        chosen.directory.timelines(),
    )
    return max(known, chosen.manifest.point.timeline) + 1


def _new_point(chosen: Choice, cut: Cut, timeline: int) -> Point:
    """The point to leave beside the restored files.

    It becomes the floor of what follows: with half commits inside, that has to
    stay the last point without, so that they are not forgotten.
    """
    return Point(
        vector=cut.floor if cut.damage else cut.vector,
        time=clock.now(),
        source="restore",
        timeline=timeline,
        # What is between known points is judged by stamps alone: all have one.
        verified=chosen.goal is not None or chosen.manifest.point.verified,
    )


def _removals(cluster: Cluster) -> list[Action]:
    """What an interrupted `tidstorage-restore` was to do with the old files, and the
    caches."""
    plans = [plan_beside(storage.data_file) for storage in cluster.storages]
    return [
        Action("remove", str(path)) for path in (*plans, *target.cached_files(cluster))
    ]


def _note_files(cluster: Cluster) -> None:
    """The files are now of the history that lies in the backup directory."""
    directory = BackupDirectory(cluster.backup.directory)
    history.establish(cluster, directory.history)
    known_files.note(cluster)


def _end_swap(cluster: Cluster, journal: Path) -> Ended:
    begun = swap.read(journal)
    swap.finish(begun, journal, lambda: _note_files(cluster))
    kept = next(
        (action.other for action in begun.actions if action.kind == "keep"), None
    )
    suffix = kept and target.KEPT + kept.rpartition(target.KEPT)[2]
    return Ended(set_id=begun.set_id, point=begun.point, kept=suffix)
