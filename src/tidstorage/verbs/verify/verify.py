"""A whole verification: set by set, the newest first, as deeply as asked for.

It takes no lock that a backup needs: what a backup or prune changes meanwhile is
looked at anew.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import NoSuchSet, NotCoherent, VerificationFailed
from tidstorage.operation import lock, progress
from tidstorage.operation import results as runs
from tidstorage.operation.progress import Show
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest, StoredFile
from tidstorage.sets.verdicts import Depth, Fault, Verdict, Verification
from tidstorage.system import private_files
from tidstorage.verbs.verify import checker as checking
from tidstorage.verbs.verify import costs, restoring, scratch
from tidstorage.verbs.verify.budget import Budget, OutOfTime
from tidstorage.verbs.verify.checker import Checker
from tidstorage.verbs.verify.costs import Cost
from tidstorage.verbs.verify.memory import Memory
from tidstorage.verbs.verify.restoring import Restored
from tidstorage.verbs.verify.scratch import Loss

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
        which = self.which if isinstance(self.which, str) else " ".join(self.which)
        return f"{self.depth} {which}"


@dataclass(frozen=True, slots=True)
class Result:
    """Of one set.

    at: when the first of its files was read, where it is good.  objects: how many
    were read in this run.  lost: how much the data lack, as a restore gives just what
    was there; losses: what that is, where it was found in this run.
    """

    set_id: str
    state: State
    at: datetime.datetime | None = None
    objects: int = 0
    lost: int = 0
    losses: Sequence[Loss] = ()


@dataclass(slots=True)
class Report:
    """What a verification found: the sets, newest first, and every bad file.

    untold: how many more are bad than ``costs`` has.
    """

    depth: Depth
    results: list[Result] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    untold: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether all was looked at."""
        return all(each.state != "unfinished" for each in self.results)

    @property
    def is_good(self) -> bool:
        """Whether nothing wrong was found."""
        return not self.costs and not any(each.lost for each in self.results)


def verify(
    cluster: Cluster, request: Request, show: Show = progress.show_nothing
) -> Report:
    """Look at the sets and keep beside them what was found.

    NoSuchSet where there is none of those; Locked where another one is under way;
    NoSpace where scratch has no room; BackupDirectoryLost.  What is wrong with a set
    is no error: the report tells.
    """
    directory = BackupDirectory.open(cluster)
    private_files.make_folder(cluster.run_directory)
    with (
        lock.hold_file(cluster.run_directory / LOCK, "verify"),
        runs.record(cluster, "verify") as recorded,
        progress.operation(cluster, "verify", show) as operation,
    ):
        chosen, broken = _choose(directory, request.which)
        if request.depth == "objects":
            scratch.remove_others(cluster, {each.id for each in chosen})
        report = Report(request.depth)
        for path, what in broken.items():
            report.costs.append(
                costs.of_manifest(directory, directory.sets(), path, what)
            )
            report.results.append(Result(path.parent.name, "bad"))
        # The deepest look begins with every byte, too.
        depth: Depth = "digests" if request.depth == "objects" else request.depth
        with Memory(directory.path, depth, request.name) as memory:
            budget = Budget(request.budget)
            checker = Checker(cluster, directory, depth, memory, budget, operation)
            run = _Run(request.depth, checker)
            for each in chosen:
                report.results.append(run.verify(each, memory))
            report.costs += checker.costs + run.costs
            report.untold = checker.untold
            if report.is_finished:
                memory.end_round()
        report.results.sort(key=lambda each: each.set_id, reverse=True)
        if not report.is_good:
            recorded.status = VerificationFailed.exit_status
        return report


class _Run:
    """What goes on for each set of a run.  costs: of sets that cannot be restored."""

    def __init__(self, depth: Depth, checker: Checker) -> None:
        self.costs: list[Cost] = []
        self._depth = depth
        self._checker = checker
        self._directory = checker.directory

    def verify(self, made: Manifest, memory: Memory) -> Result:
        """One set; what was found is kept beside it."""
        try:
            found = self._checker.check(made)
            if self._depth != "objects" or found.bad:
                return self._note(made, self._checker.depth, found.at, found.bad)
            return self._restore(made, memory, found.at)
        except OutOfTime:
            return Result(made.id, "unfinished")

    def _restore(self, made: Manifest, memory: Memory, at: datetime.datetime) -> Result:
        # Remembered like a file, so that the next run need not restore it again.
        whole = StoredFile(f"sets/{made.id}", 0, self._depth)
        if memory.good_since(whole) is not None:
            return self._told_before(made, at, whole.path)
        checker = self._checker
        restored = restoring.restore(
            checker.cluster, made, checker.budget, checker.operation
        )
        memory.note(whole, at)
        bad = []
        if restored.fault is not None:
            bad.append((whole.path, restored.fault))
            self._tell(made, restored.fault)
        return self._note(made, "objects", at, bad, restored)

    def _told_before(self, made: Manifest, at: datetime.datetime, path: str) -> Result:
        """What an earlier run of the same round found; only it knew the details."""
        known = self._directory.verdict(made.id) or Verdict()
        for fault in known.faults:
            if fault.path == path:
                self._tell(made, fault.what)
                return Result(made.id, "bad")
        return Result(made.id, "good", at, lost=known.lost or 0)

    def _tell(self, made: Manifest, what: str) -> None:
        self.costs.append(costs.of_set(self._directory.sets(), made.id, what))

    def _note(
        self,
        made: Manifest,
        depth: Depth,
        at: datetime.datetime,
        bad: Sequence[tuple[str, str]],
        restored: Restored | None = None,
    ) -> Result:
        if made.id not in self._directory.set_ids():
            return Result(made.id, "gone")
        told = bad[: checking.MOST_TOLD]
        faults = [Fault(path=path, what=what, depth=depth) for path, what in told]
        lost = None if restored is None or bad else len(restored.lost)
        outcome = Verification(depth, at, faults, lost)
        self._directory.note_verification(made.id, outcome)
        if faults:
            return Result(made.id, "bad")
        if restored is None:
            return Result(made.id, "good", at)
        return Result(
            made.id, "good", at, restored.objects, len(restored.lost), restored.lost
        )


def _choose(
    directory: BackupDirectory, which: Literal["latest", "all"] | tuple[str, ...]
) -> tuple[list[Manifest], dict[Path, str]]:
    """The sets, newest first, and {path of a manifest: why it is broken}."""
    sound = directory.manifests()
    wanted = which if isinstance(which, tuple) else _ids(directory, which)
    chosen = [each for each in sound if each.id in wanted]
    broken = {}
    for set_id in set(wanted) - {each.id for each in chosen}:
        try:
            directory.manifest(set_id)
        except NotCoherent as error:
            path = directory.manifest_path(set_id)
            broken[path] = str(error).removeprefix(f"{path} ")
    if which == "latest" and not chosen:
        # The newest is broken: of the others, the newest that is not.
        chosen = sound[:1]
    if not chosen and not broken:
        raise NoSuchSet(f"there is no backup set in {directory.path}")
    return chosen, broken


def _ids(directory: BackupDirectory, which: str) -> list[str]:
    ids = directory.set_ids()
    return ids if which == "all" else ids[:1]
