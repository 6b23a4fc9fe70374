"""A whole restore: the phases in their order, and what happens when one fails."""

import contextlib
import datetime
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import lock as file_lock
from tidstorage.errors import (
    NotCoherent,
    UnknownStorage,
)
from tidstorage.operation import lock, progress
from tidstorage.operation.progress import Operation, Show, show_nothing
from tidstorage.operation.unfinished import interrupted_swap, plan_beside, swap_journal
from tidstorage.points import timelines
from tidstorage.processes.running import refuse_running
from tidstorage.sets import layout, listing
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock
from tidstorage.verbs.moments.goal import Goal
from tidstorage.verbs.restore import (
    assemble,
    mark,
    plan,
    rehearsal,
    reuse,
    staging,
    swap,
    target,
)
from tidstorage.verbs.restore.cutting import Cut
from tidstorage.verbs.restore.plan import Choice, Request
from tidstorage.verbs.restore.rehearsal import Effort
from tidstorage.verbs.restore.swap import Action, Swap
from tidstorage.verbs.restore.target import Target


@dataclass(frozen=True, slots=True)
class Report:
    """What a restore did, or with --dry-run would do.

    sizes: {storage id: (bytes in the set, bytes kept; None in a dry run)}.
    last_tids: {storage id: TID of the last transaction kept}, once restored.
    kept: what is appended to the names of the old files; None where there was
    nothing to keep.  resumed: an interrupted swap was brought to its end.
    renamed: {id in the set: present id} of storages that had another name then.
    as_of: the moment whose state it is, in UTC; None for a resumed one.  goal: what
    was asked for instead of the set's own point.  cut: None where only the restore
    itself can find it.  reused: ids of storages whose files were cut where they lie;
    dropped: what is appended to the names of what was cut off.  effort: in a dry run
    what it would take; reused are then those that seem to be as they have to be.
    """

    set_id: str
    point: Point
    sizes: Mapping[str, tuple[int, int | None]]
    kept: str | None
    last_tids: Mapping[str, int] = field(default_factory=dict)
    resumed: bool = False
    as_of: datetime.datetime | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    goal: Goal | None = None
    cut: Cut | None = None
    reused: frozenset[str] = frozenset()
    dropped: str | None = None
    effort: Effort | None = None


def in_place(cluster: Cluster, request: Request, show: Show = show_nothing) -> Report:
    """Restore over the cluster's own files, which are kept under other names.

    ClusterRunning while any part of it is up.  Any error before the swap leaves
    everything as it was; a swap that was interrupted is brought to its end
    instead, whatever is asked for.
    """
    with (
        lock.hold(cluster, "restore"),
        progress.operation(cluster, "restore", show) as operation,
    ):
        refuse_running(cluster)
        with _data_files_locked(cluster):
            if journal := interrupted_swap(cluster):
                return _resume(journal)
            return _in_place(cluster, request, operation)


def _in_place(cluster: Cluster, request: Request, operation: Operation) -> Report:
    chosen = plan.choose(cluster, request)
    manifest = chosen.manifest
    targets = _targets(cluster, manifest)
    target.remove_staging(targets.values())
    reused: frozenset[str] = frozenset()
    if request.reuse:
        reused = staging.reusable(cluster, manifest, targets, operation)
    staged = staging.stage(cluster, chosen, targets, operation, reused)
    new = staging.within(
        _new_point(chosen, staged.cut, _next_timeline(cluster, manifest)), staged.files
    )
    moment = target.unused_moment(targets.values())
    actions = [
        act
        for storage, each in targets.items()
        for act in (
            each.cutting_actions(moment, staged.cut.vector[storage])
            if storage in reused
            else each.actions(moment)
        )
    ]
    keeps = any(act.kind == "keep" for act in actions)
    actions += _removals(cluster)
    files = [each.data_file for each in cluster.storages]
    done = Swap(manifest.id, actions, new, files)
    journal = swap_journal(cluster)
    with staging.nothing_left_of_a_failure(targets):
        for each in targets.values():
            each.give_to_owners()
        swap.write(done, journal)
    swap.finish(done, journal)
    kept = f"{target.KEPT}{moment}" if keeps else None
    last_tids = _last_tids(targets)
    report = _report(chosen, new, staged.sizes, staged.cut, kept, last_tids)
    dropped = f"{target.DROPPED}{moment}" if reused else None
    return replace(report, reused=reused, dropped=dropped)


def elsewhere(
    cluster: Cluster, request: Request, directory: Path, show: Show = show_nothing
) -> Report:
    """Restore into an empty folder: ``<id>/Data.fs`` and ``<id>/blobs`` each.

    show: told how far it is (`tidstorage.operation.progress`).
    """
    with (
        lock.hold(cluster, "restore"),
        progress.operation(cluster, "restore", show) as operation,
    ):
        chosen = plan.choose(cluster, request)
        manifest = chosen.manifest
        mark.clear(directory)
        targets = _targets_elsewhere(chosen, directory)
        mark.mark(directory, targets)
        try:
            staged = staging.stage(cluster, chosen, targets, operation)
            timeline = manifest.point.timeline
            new = staging.within(_new_point(chosen, staged.cut, timeline), staged.files)
            actions = [act for each in targets.values() for act in each.actions("")]
            files = [each.data_file for each in targets.values()]
            swap.execute(Swap(manifest.id, actions, new, files))
        except BaseException:
            # It was empty or missing, and is to be empty for the next attempt.
            for each in targets.values():
                if each.data_file.parent.exists():
                    shutil.rmtree(each.data_file.parent)
            mark.unmark(directory)
            raise
        mark.unmark(directory)
        last_tids = _last_tids(targets)
        return _report(chosen, new, staged.sizes, staged.cut, None, last_tids)


def rehearse(cluster: Cluster, request: Request) -> Report:
    """What `in_place` would do; nothing is changed, and the cluster may be up."""
    if journal := interrupted_swap(cluster):
        found = swap.read(journal)
        return Report(found.set_id, found.point, {}, None, resumed=True)
    chosen = plan.choose(cluster, request)
    targets = _targets(cluster, chosen.manifest)
    timeline = _next_timeline(cluster, chosen.manifest)
    reused: frozenset[str] = frozenset()
    if request.reuse:
        reused = frozenset(reuse.possible(chosen.manifest, targets))
    return _rehearsed(cluster, chosen, targets, timeline, reused)


def rehearse_elsewhere(cluster: Cluster, request: Request, directory: Path) -> Report:
    """What `elsewhere` would do; nothing is changed."""
    chosen = plan.choose(cluster, request)
    targets = _targets_elsewhere(chosen, directory)
    return _rehearsed(cluster, chosen, targets, chosen.manifest.point.timeline)


def _rehearsed(
    cluster: Cluster,
    chosen: Choice,
    targets: Mapping[str, Target],
    timeline: int,
    reused: frozenset[str] = frozenset(),
) -> Report:
    assemble.refuse_lack_of_space(chosen.manifest, targets, reused)
    effort = rehearsal.effort(cluster, chosen.manifest, targets, reused)
    stored = {each: (chosen.manifest.storage(each).size, None) for each in targets}
    found = rehearsal.find_cut(cluster, chosen, targets)
    if found is None:
        # Only the copies themselves tell more: here is the least that they hold.
        assert chosen.goal is not None
        least = chosen.goal.floor.vector if chosen.goal.floor else {}
        new = _new_point(chosen, Cut(least, least), timeline)
    else:
        new = _new_point(chosen, found, timeline)
    report = _report(chosen, new, stored, found)
    return replace(report, reused=reused, effort=effort)


def _report(
    chosen: Choice,
    new: Point,
    sizes: Mapping[str, tuple[int, int | None]],
    found: Cut | None,
    kept: str | None = None,
    last_tids: Mapping[str, int] | None = None,
) -> Report:
    goal = chosen.goal
    if goal is None:
        as_of: datetime.datetime | None = plan.as_of(chosen.manifest, chosen.policy)
    elif found is None:
        as_of = None
    else:
        as_of = found.left_out.since if found.left_out else goal.moment
    return Report(
        chosen.manifest.id,
        new,
        sizes,
        kept,
        last_tids or {},
        as_of=as_of,
        renamed=chosen.renamed,
        goal=goal,
        cut=found,
    )


@contextlib.contextmanager
def _data_files_locked(cluster: Cluster) -> Iterator[None]:
    """Hold the locks that FileStorage takes: nobody has the files, nobody gets them."""
    with contextlib.ExitStack() as stack:
        for storage in cluster.storages:
            layout.make_folder(storage.data_file.parent)
            stack.enter_context(file_lock.held(storage.data_file))
        yield


def _targets(cluster: Cluster, manifest: Manifest) -> dict[str, Target]:
    """The cluster's files; NotCoherent where the set is of other storages."""
    stored = {each.id for each in manifest.storages}
    present = {each.id for each in cluster.storages}
    if missing := present - stored:
        raise NotCoherent(
            f"set {manifest.id} has no storage {', '.join(sorted(missing))}",
            "It was made before that was added; restore with the description of then.",
        )
    if unknown := stored - present - cluster.retired:
        raise NotCoherent(
            f"set {manifest.id} has storages that the cluster has not:"
            f" {', '.join(sorted(unknown))}",
            "List them in cluster.toml as storages, or under [[retired-storage]].",
        )
    for storage in cluster.storages:
        if manifest.storage(storage.id).blob_count and not storage.blob_directory:
            raise NotCoherent(
                f"set {manifest.id} has blobs of storage {storage.id}, which is"
                " described without",
                "Give it blobs = true in cluster.toml, or restore with --into.",
            )
    return target.in_place(cluster)


def _targets_elsewhere(chosen: Choice, directory: Path) -> dict[str, Target]:
    has_blobs = {
        each.id: each.blob_lists is not None for each in chosen.manifest.storages
    }
    wanted = has_blobs.keys() if chosen.storages is None else chosen.storages
    if unknown := wanted - has_blobs.keys():
        raise UnknownStorage(
            f"set {chosen.manifest.id} has no storage {', '.join(sorted(unknown))}",
            f"It has {', '.join(sorted(has_blobs))}.",
        )
    return target.elsewhere(directory, {each: has_blobs[each] for each in wanted})


def _last_tids(targets: Mapping[str, Target]) -> dict[str, int]:
    return {
        storage: filestorage.last_tid(each.data_file)
        for storage, each in targets.items()
    }


def _next_timeline(cluster: Cluster, manifest: Manifest) -> int:
    known = timelines.highest(
        (storage.data_file for storage in cluster.storages),
        cluster.daemon.journal,
        listing.timelines(cluster.backup.directory),
    )
    return max(known, manifest.point.timeline) + 1


def _new_point(chosen: Choice, found: Cut, timeline: int) -> Point:
    """The point to leave beside the restored files.

    It becomes the floor of what follows: with half commits inside, that has to
    stay the last point without, so that they are not forgotten.
    """
    return Point(
        vector=found.floor if found.damage else found.vector,
        time=clock.now(),
        source="restore",
        timeline=timeline,
        # What is between known points is judged by stamps alone: all have one.
        verified=chosen.goal is not None or chosen.manifest.point.verified,
    )


def _removals(cluster: Cluster) -> list[Action]:
    """What an interrupted `tidstorage-restore` was to do with the old files, and the
    caches."""
    plans = [plan_beside(each.data_file) for each in cluster.storages]
    return [
        Action("remove", str(each)) for each in (*plans, *target.cached_files(cluster))
    ]


def _resume(journal: Path) -> Report:
    found = swap.read(journal)
    swap.finish(found, journal)
    kept = next((each.other for each in found.actions if each.kind == "keep"), None)
    suffix = kept and target.KEPT + kept.rpartition(target.KEPT)[2]
    return Report(found.set_id, found.point, {}, suffix, resumed=True)
