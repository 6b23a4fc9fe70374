"""A whole verification: set by set, the newest first, as deeply as asked for.

It takes no lock that a backup needs: what a backup or prune changes meanwhile is
looked at anew.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tidstorage import lock, manifest, progress, runs
from tidstorage.backup import directory as backup_directory
from tidstorage.backup import layout, sets, verified
from tidstorage.backup.verified import Depth, Fault, Outcome
from tidstorage.cluster import Cluster
from tidstorage.errors import NoSuchSet, NotCoherent, VerificationFailed
from tidstorage.manifest import Manifest
from tidstorage.progress import Show
from tidstorage.verify import costs
from tidstorage.verify.budget import Budget, OutOfTime
from tidstorage.verify.checker import Checker
from tidstorage.verify.costs import Cost
from tidstorage.verify.memory import Memory

LOCK = "verify.lock"
#: What became of a set: nothing wrong was found, something was, the time was over
#: before all was looked at, or it was pruned meanwhile.
State = Literal["good", "bad", "unfinished", "gone"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    which: "latest", "all", or ids of sets.  budget: how long at most, None: until
    all is done.
    """

    which: Literal["latest", "all"] | tuple[str, ...]
    depth: Depth
    budget: datetime.timedelta | None = None

    @property
    def name(self) -> str:
        """The same for each run that goes on with the one before."""
        return self.which if isinstance(self.which, str) else " ".join(self.which)


@dataclass(frozen=True, slots=True)
class Result:
    """Of one set.  at: when the first of its files was read, where it is good."""

    set_id: str
    state: State
    at: datetime.datetime | None = None


@dataclass(slots=True)
class Report:
    """What a verification found: the sets, newest first, and every bad file."""

    depth: Depth
    results: list[Result] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)

    @property
    def is_finished(self) -> bool:
        """Whether all was looked at."""
        return all(each.state != "unfinished" for each in self.results)

    @property
    def is_good(self) -> bool:
        """Whether nothing wrong was found."""
        return not self.costs


def verify(
    cluster: Cluster, request: Request, show: Show = progress.show_nothing
) -> Report:
    """Look at the sets and keep beside them what was found.

    NoSuchSet where there is none of those; Locked where another one is under way;
    BackupDirectoryLost.  What is wrong with a set is no error: the report tells.
    """
    directory = backup_directory.known(cluster)
    layout.make_folder(cluster.run_directory)
    with (
        lock.hold_file(cluster.run_directory / LOCK, "verify"),
        runs.recorded(cluster, "verify") as recorded,
        progress.operation(cluster, "verify", show) as operation,
    ):
        chosen, broken = _choose(directory, request.which)
        report = Report(request.depth)
        for path, what in broken.items():
            found = sets.every(directory)
            report.costs.append(costs.of_manifest(directory, found, path, what))
            report.results.append(Result(path.parent.name, "bad"))
        with (
            Memory(directory, request.depth, request.name) as memory,
            operation.phase("read files", total=_size(chosen)) as phase,
        ):
            budget = Budget(request.budget)
            checker = Checker(cluster, directory, request.depth, memory, budget, phase)
            for each in chosen:
                report.results.append(_verify(checker, directory, each, request.depth))
            report.costs += checker.costs
            if report.is_finished:
                memory.end_round()
        report.results.sort(key=lambda each: each.set_id, reverse=True)
        if not report.is_good:
            recorded.status = VerificationFailed.exit_status
        return report


def _verify(checker: Checker, directory: Path, made: Manifest, depth: Depth) -> Result:
    """One set; what was found is kept beside it."""
    try:
        found = checker.check(made)
    except OutOfTime:
        return Result(made.id, "unfinished")
    if made.id not in sets.ids(directory):
        return Result(made.id, "gone")
    faults = [Fault(path=each, what=what, depth=depth) for each, what in found.bad]
    verified.note(directory, made.id, Outcome(depth, found.at, faults))
    if faults:
        return Result(made.id, "bad")
    return Result(made.id, "good", found.at)


def _choose(
    directory: Path, which: Literal["latest", "all"] | tuple[str, ...]
) -> tuple[list[Manifest], dict[Path, str]]:
    """The sets, newest first, and {path of a manifest: why it is broken}."""
    sound, _ = sets.manifests(directory)
    wanted = which if isinstance(which, tuple) else _ids(directory, which)
    chosen = [each for each in sound if each.id in wanted]
    broken = {}
    for set_id in set(wanted) - {each.id for each in chosen}:
        path = layout.sets(directory) / set_id / manifest.FILE_NAME
        try:
            manifest.read(path)
        except NotCoherent as error:
            if not path.exists():
                raise NoSuchSet(f"there is no set {set_id} in {directory}") from error
            broken[path] = str(error).removeprefix(f"{path} ")
    if which == "latest" and not chosen:
        # The newest is broken: of the others, the newest that is not.
        chosen = sound[:1]
    if not chosen and not broken:
        raise NoSuchSet(f"there is no backup set in {directory}")
    return chosen, broken


def _ids(directory: Path, which: str) -> list[str]:
    ids = sets.ids(directory)
    return ids if which == "all" else ids[:1]


def _size(chosen: Sequence[Manifest]) -> int:
    """Bytes of the files, each once; blobs as many as the fullest list has."""
    sizes = {each.path: each.size for one in chosen for each in one.files()}
    pools: dict[str, int] = {}
    for one in chosen:
        for storage in one.storages:
            if storage.blob_lists:
                first = storage.blob_lists[0].path
                pools[first] = max(pools.get(first, 0), storage.blob_bytes)
    return sum(sizes.values()) + sum(pools.values())
