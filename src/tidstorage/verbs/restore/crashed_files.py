"""Crashed files made to fit together where they lie, without any backup.

Nothing is lost: what is cut off a file is kept beside it.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.engines.filestorage import truncation
from tidstorage.engines.filestorage.file_tail import CutPosition
from tidstorage.engines.filestorage.files_cut import FilesCut, cut_files
from tidstorage.errors import (
    Damaged,
    InterruptedRestore,
    NotCoherent,
)
from tidstorage.operation import lock
from tidstorage.operation.unfinished import interrupted_swap
from tidstorage.points import accepted as acceptance
from tidstorage.points import floors, timelines
from tidstorage.points.floors import ChosenFloor
from tidstorage.processes.running import refuse_running
from tidstorage.sets.directory import BackupDirectory
from tidstorage.system import clock
from tidstorage.verbs.restore import cut_plan
from tidstorage.verbs.restore.cut_plan import Plan, Step
from tidstorage.verbs.restore.explain import explain_choices
from tidstorage.verbs.restore.target import DROPPED, cached_files, first_unused

Policy = Literal["clean", "strict", "tolerant"]


@dataclass(frozen=True, slots=True)
class Request:
    """Which files, and how to cut them.

    paths: {storage id: its Data.fs}.  aliases: {old id: present id}.  partial:
    these are not all storages.  floor: a file that holds it; None: the points
    beside.  policy: "strict" cuts off half commits and all that follows them,
    "tolerant" keeps them, "clean" refuses where there are any that nobody
    acknowledged.  cluster: whose files they are, if that is known.
    blob_directories: {storage id: its blob directory}, where it is known.
    at_floor: cut at the floor itself, which then has to be given.  keep_beside:
    {storage id: path}, beside which its dropped bytes go; else beside its Data.fs.
    """

    paths: Mapping[str, Path]
    aliases: Mapping[str, str]
    retired: frozenset[str]
    partial: bool = False
    floor: Path | None = None
    policy: Policy = "clean"
    cluster: Cluster | None = None
    blob_directories: Mapping[str, Path] = field(default_factory=dict)
    at_floor: bool = False
    keep_beside: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, or with --dry-run would be.

    files_cut: None where an interrupted run was only brought to its end.  plan: None
    where the files fit together as they are.  blobs: {storage id: number of blobs
    of dropped transactions}, where there are any.
    """

    floor: ChosenFloor | None
    files_cut: FilesCut | None
    plan: Plan | None
    blobs: Mapping[str, int] = field(default_factory=dict)


def preview(request: Request) -> Outcome:
    """What `restore` would do; nothing is changed, and servers may be up."""
    if plan := cut_plan.interrupted(request.paths.values()):
        outcome = Outcome(None, None, plan)
    else:
        outcome = _examine(request)
    if outcome.plan is None:
        return outcome
    return replace(outcome, blobs=cut_plan.dropped_blobs(outcome.plan))


def restore(request: Request) -> Outcome:
    """Cut all files, or end what an interrupted run began, whatever is asked for.

    Raises:
      ClusterRunning: while anything is up.
      Damaged: where the operator has to choose what to lose.
      InterruptedRestore: where another restore has to be ended first.
      as `cut_files` and `truncate`.
    """
    with _alone(request):
        if plan := cut_plan.interrupted(request.paths.values()):
            _refuse_others(request, plan)
            outcome = Outcome(None, None, plan)
        else:
            outcome = _examine(request)
            if outcome.plan is None:
                return outcome
            cut_plan.write(outcome.plan)
        assert outcome.plan is not None
        cut_plan.cut(outcome.plan)
        _check(request, outcome.plan)
        cut_plan.finish(outcome.plan)
        return replace(outcome, blobs=cut_plan.dropped_blobs(outcome.plan))


@contextlib.contextmanager
def _alone(request: Request) -> Iterator[None]:
    """Nothing else moves data, and nothing has the files or gets them."""
    with contextlib.ExitStack() as stack:
        if request.cluster is not None:
            stack.enter_context(lock.hold(request.cluster, "tidstorage-restore"))
            refuse_running(request.cluster)
            if journal_of_swap := interrupted_swap(request.cluster):
                raise InterruptedRestore(
                    "a restore was cut off in the middle of its swap:"
                    f" {journal_of_swap}",
                    "End it first (bin/cluster restore).",
                )
        stack.enter_context(cut_plan.locked(request.paths.values()))
        yield


def _refuse_others(request: Request, plan: Plan) -> None:
    planned = {step.storage: step.path for step in plan.steps}
    if planned != {storage: path.absolute() for storage, path in request.paths.items()}:
        files = " ".join(f"{storage}={path}" for storage, path in planned.items())
        raise InterruptedRestore(
            f"a run was interrupted that was to cut {files}",
            "Run this for the same files.",
        )


def _examine(request: Request) -> Outcome:
    floor = floors.choose(request.paths, request.floor, request.aliases)
    accepted = _acknowledged(request.cluster)
    files_cut = _cut_files(request, floor, accepted)
    places: Mapping[str, CutPosition]
    if request.at_floor:
        places = {storage: tail.floor for storage, tail in files_cut.tails.items()}
    elif request.policy == "tolerant":
        places = files_cut.tolerant
        accepted |= {half.commit_id for half in files_cut.half_commits}
    else:
        places = files_cut.strict
        if request.policy == "clean" and files_cut.half_commits:
            raise Damaged(_explain(files_cut), "Give --strict or --tolerant.")
        if request.policy == "clean":
            _refuse_silent_loss(request, files_cut)
    if all(
        places[storage].position >= tail.end.size
        for storage, tail in files_cut.tails.items()
    ):
        return Outcome(floor, files_cut, None)
    return Outcome(floor, files_cut, _plan(request, floor, files_cut, places, accepted))


def _refuse_silent_loss(request: Request, files_cut: FilesCut) -> None:
    """Refuse to drop whole transactions, which were acknowledged, without a word.

    They are kept out where they saw what no file holds: of a lost timeline, or the TID
    of a vote that nobody has noted.

    Raises: Damaged: there are such transactions.
    """
    dropped = {
        storage: [
            record
            for record in tail.records
            if record.position >= files_cut.strict[storage].position
        ]
        for storage, tail in files_cut.tails.items()
    }
    held = {
        storage: {record.stamp.commit_id for record in tail.records if record.stamp}
        for storage, tail in files_cut.tails.items()
    }
    whole = {
        record.stamp.commit_id
        for records in dropped.values()
        for record in records
        if record.stamp
        and all(
            record.stamp.commit_id in held.get(other, ())
            for other in record.stamp.participants - request.retired
        )
    }
    if whole:
        first = min(tid.to_time(r.tid) for rs in dropped.values() for r in rs)
        raise Damaged(
            f"a coherent cut drops {len(whole)} whole transaction(s) of after"
            f" {first:%Y-%m-%d %H:%M:%S} UTC, which were acknowledged: they saw, or"
            " follow one that saw, what no file holds\n" + _explain(files_cut),
            "If a server was killed amid a commit before, and not started by"
            " bin/zeo-NAME, they may be good: start the servers, and back up. Else give"
            " --strict, which drops them.",
        )


def _cut_files(
    request: Request,
    floor: ChosenFloor,
    accepted: frozenset[bytes],
    ends: tid.Vector | None = None,
) -> FilesCut:
    return cut_files(
        request.paths,
        floor.vector,
        aliases=request.aliases,
        retired=request.retired,
        # What follows the floor tells nothing where all of it goes.
        partial=request.partial or request.at_floor,
        known_damage=floor.damage,
        accepted=accepted,
        ends=ends,
    )


def _acknowledged(cluster: Cluster | None) -> frozenset[bytes]:
    """Ids of half commits that somebody has accepted."""
    if cluster is None:
        return frozenset()
    return frozenset(acceptance.commit_ids(cluster))


def _plan(
    request: Request,
    floor: ChosenFloor,
    files_cut: FilesCut,
    places: Mapping[str, CutPosition],
    accepted: frozenset[bytes],
) -> Plan:
    beside = {
        storage: request.keep_beside.get(storage, tail.path).absolute()
        for storage, tail in files_cut.tails.items()
    }
    moment = first_unused(
        lambda moment: any(
            cut_plan.is_kept(_dropped(path, moment)) for path in beside.values()
        )
    )
    steps = [
        Step(
            storage,
            tail.path.absolute(),
            places[storage].tid,
            places[storage].position,
            tail.end.size,
            _dropped(beside[storage], moment),
            _blob_directory(request, storage),
        )
        for storage, tail in files_cut.tails.items()
    ]
    vector: tid.Vector = {step.storage: step.last for step in steps}
    damage = files_cut.half_commits if request.policy == "tolerant" else ()
    if accepted:
        # The point becomes the floor of what follows; half commits must stay
        # visible above it, even where what proved them is cut off.
        vector = floor.vector
    new = Point(
        vector=vector,
        time=clock.now(),
        source="restore",
        timeline=_highest_timeline(request) + 1,
        verified=not any(files_cut.unstamped.values()),
        damage=damage,
    )
    caches = [] if request.cluster is None else cached_files(request.cluster)
    return Plan(1, steps, floor.vector, accepted, new, caches)


def _highest_timeline(request: Request) -> int:
    files = request.paths.values()
    if request.cluster is None:
        return max(1, timelines.highest(files, None))
    sets = BackupDirectory(request.cluster.backup.directory).timelines()
    return max(1, timelines.highest(files, request.cluster.daemon.journal, sets))


def _dropped(beside: Path, moment: str) -> Path:
    return beside.with_name(f"{beside.name}{DROPPED}{moment}")


def _blob_directory(request: Request, storage: str) -> Path | None:
    directory = request.blob_directories.get(storage)
    return directory and directory.resolve()


def _check(request: Request, plan: Plan) -> None:
    """What is left is its own coherent cut."""
    ends = {step.storage: truncation.end_before(step.dropped) for step in plan.steps}
    left = _cut_files(request, ChosenFloor(plan.floor, ""), plan.accepted, ends)
    for step in plan.steps:
        place = left.strict.get(step.storage)
        if place is not None and place.position < step.position:
            raise NotCoherent(
                f"what is left does not fit together: storage {step.storage} would"
                f" have to be cut again, after {tid.to_text(place.tid)}",
                f"What was cut off is in {step.dropped}.",
            )


def _explain(files_cut: FilesCut) -> str:
    """What is torn, and what each choice loses."""
    choices = []
    for name, places in (
        ("strict", files_cut.strict),
        ("tolerant", files_cut.tolerant),
    ):
        choices.append(f"--{name} loses:")
        for storage, tail in files_cut.tails.items():
            lost = tail.dropped_behind(places[storage])
            since = f", since {tid.to_time(lost.first):%Y-%m-%d %H:%M:%S} UTC"
            choices.append(
                f"  {storage}: {lost.transactions} transaction(s),"
                f" {lost.size} bytes{since if lost.first else ''}"
            )
    return explain_choices("the files hold", files_cut.half_commits, choices)
