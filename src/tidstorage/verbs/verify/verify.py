"""A whole verification: set by set, the newest first, as deeply as asked for.

It takes no lock that a backup needs: what a backup or prune changes meanwhile is
looked at anew.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines.filestorage.blob_files import key_of_path
from tidstorage.errors import SetUnreadable, VerificationFailed
from tidstorage.operation import lock, progress, results
from tidstorage.operation.progress import Operation, Show
from tidstorage.sets import verdicts
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest, StoredFile
from tidstorage.sets.verdicts import Depth, Fault, Unread, Verdict
from tidstorage.system import private_files
from tidstorage.verbs.verify import checker, costs, restoring, trial
from tidstorage.verbs.verify.budget import OutOfTime, TimeBudget
from tidstorage.verbs.verify.checker import CheckedFiles, FileChecker
from tidstorage.verbs.verify.chosen_sets import choose_sets
from tidstorage.verbs.verify.costs import Cost
from tidstorage.verbs.verify.good_files import GoodFiles
from tidstorage.verbs.verify.restoring import TriedRestore
from tidstorage.verbs.verify.trial import ObjectFault

LOCK = "verify.lock"
#: What became of a set: nothing wrong was found, something was, something could not
#: be read, the time was over before all was looked at, or it was pruned meanwhile.
SetState = Literal["good", "bad", "unknown", "unfinished", "gone"]


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What is to be verified.

    which: "latest", "all", or ids of sets.  budget: how long at most; None: until
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
class SetVerdict:
    """What a verification found of one set.

    at: when the first of its files was read, in UTC, where it is good.  objects: how
    many were read in this run.  lost: how much the data lack, as a restore gives just
    what was there; losses: what that is, where it was found in this run.
    """

    set_id: str
    state: SetState
    at: datetime.datetime | None = None
    objects: int = 0
    lost: int = 0
    losses: Sequence[ObjectFault] = ()


@dataclass(slots=True)
class Verification:
    """What a verification found: of the sets, newest first, and every bad file.

    costs: of what is bad.  unread: of what could not be read, so that nobody knows.
    untold: how many more files there are of both.
    """

    depth: Depth
    sets: list[SetVerdict] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    unread: list[Cost] = field(default_factory=list)
    untold: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether all was looked at."""
        return all(verdict.state != "unfinished" for verdict in self.sets)

    @property
    def is_good(self) -> bool:
        """Whether all that was to be looked at was, and nothing wrong was found."""
        return self.exit_status == 0

    @property
    def exit_status(self) -> int:
        """0, that of `VerificationFailed`, or where nobody knows of `SetUnreadable`."""
        if self.costs or any(verdict.lost for verdict in self.sets):
            return VerificationFailed.exit_status
        unknown = any(verdict.state == "unknown" for verdict in self.sets)
        return SetUnreadable.exit_status if self.unread or unknown else 0


def verify(
    cluster: Cluster, request: VerifyRequest, show: Show = progress.show_nothing
) -> Verification:
    """Look at the sets and keep beside them what was found.

    What is wrong with a set is no error: the verification tells.

    show: told how far it is (`tidstorage.operation.progress`).

    Raises:
      NoSuchSet: there is none of those asked for.
      Locked: another verification is under way.
      NoSpace: the scratch folder has not the room for a set.
      BackupDirectoryLost: the backup directory is another one than before.
      SetUnreadable: nobody can tell which sets there are.
    """
    directory = BackupDirectory.open(cluster)
    private_files.make_folder(cluster.run_directory)
    with (
        lock.hold_file(cluster.run_directory / LOCK, "verify"),
        results.record(cluster, "verify") as recorded,
        progress.operation(cluster, "verify", show) as operation,
    ):
        chosen, broken, unread = choose_sets(directory, request.which)
        if request.depth == "objects":
            trial.remove_others(cluster, {made.id for made in chosen})
        verification = Verification(request.depth)
        for path, what in broken.items():
            verification.costs.append(costs.cost_of_manifest(directory, path, what))
            verification.sets.append(SetVerdict(path.parent.name, "bad"))
        for path, what in unread.items():
            verification.unread.append(costs.cost_of_manifest(directory, path, what))
            verification.sets.append(SetVerdict(path.parent.name, "unknown"))
        # The deepest look begins with every byte, too.
        depth: Depth = "digests" if request.depth == "objects" else request.depth
        with GoodFiles(directory, depth, request.name) as good_files:
            verifier = _SetVerifier(cluster, directory, request, good_files, operation)
            for made in chosen:
                verification.sets.append(verifier.verify(made))
            verification.costs += verifier.checker.costs + verifier.costs
            verification.unread += verifier.checker.unread + verifier.unread
            verification.untold = verifier.checker.untold
            if verification.is_finished:
                good_files.end_round()
        verification.sets.sort(key=lambda verdict: verdict.set_id, reverse=True)
        recorded.status = verification.exit_status
        return verification


class _SetVerifier:
    """Verifies one set after the other, in one run.

    checker: of their files.  costs: of sets that cannot be restored, though their
    files are well.  unread: of sets of which that could not be told.
    """

    def __init__(
        self,
        cluster: Cluster,
        directory: BackupDirectory,
        request: VerifyRequest,
        good_files: GoodFiles,
        operation: Operation,
    ) -> None:
        self.costs: list[Cost] = []
        self.unread: list[Cost] = []
        self._cluster = cluster
        self._directory = directory
        self._depth = request.depth
        self._good_files = good_files
        self._budget = TimeBudget(request.budget)
        self._operation = operation
        self.checker = FileChecker(
            cluster,
            directory,
            depth=good_files.depth,
            good_files=good_files,
            budget=self._budget,
            operation=operation,
        )

    def verify(self, made: Manifest) -> SetVerdict:
        """Verify one set, and keep beside it what was found."""
        try:
            checked = self.checker.check(made)
            if self._depth != "objects" or checked.bad or checked.unread:
                return self._note(made, self._good_files.depth, checked)
            return self._restore(made, checked)
        except OutOfTime:
            return SetVerdict(made.id, "unfinished")
        except SetUnreadable as error:
            # Of its verdict, or while it was restored.
            self.unread.append(
                costs.cost_of_set(self._directory, made.id, f"is unknown: {error}")
            )
            return SetVerdict(made.id, "unknown")

    def _restore(self, made: Manifest, checked: CheckedFiles) -> SetVerdict:
        # Kept like a file, so that the next run need not restore it again.
        whole_set = StoredFile(f"sets/{made.id}", 0, self._depth)
        if self._good_files.good_since(whole_set) is not None:
            return self._tell_again(made, checked.at, whole_set.path)
        tried = restoring.try_restore(
            self._cluster, made, self._budget, self._operation
        )
        # Also where it cannot be restored: that is kept with the set's verdict.
        self._good_files.note(whole_set, checked.at)
        bad = []
        if tried.fault is not None:
            bad.append((whole_set.path, tried.fault))
            self._add_cost(made, tried.fault)
        return self._note(made, "objects", replace(checked, bad=bad), tried)

    def _tell_again(
        self, made: Manifest, at: datetime.datetime, path: str
    ) -> SetVerdict:
        """What an earlier run of the same round found; only it knew the details."""
        known = self._directory.verdict(made.id) or Verdict()
        for fault in known.faults:
            if fault.path == path:
                self._add_cost(made, fault.what)
                return SetVerdict(made.id, "bad")
        return SetVerdict(made.id, "good", at, lost=known.lost or 0)

    def _add_cost(self, made: Manifest, what: str) -> None:
        self.costs.append(costs.cost_of_set(self._directory, made.id, what))

    def _note(
        self,
        made: Manifest,
        depth: Depth,
        checked: CheckedFiles,
        tried: TriedRestore | None = None,
    ) -> SetVerdict:
        """Keep beside the set what was found of it."""
        if made.id not in self._directory.set_ids():
            return SetVerdict(made.id, "gone")
        at, most = checked.at, checker.MOST_TOLD
        faults = [
            Fault(path=path, what=what, depth=depth)
            for path, what in checked.bad[:most]
        ]
        unread = [
            Unread(path=path, what=what, depth=depth)
            for path, what in checked.unread[:most]
        ]
        losses = _list_losses(made, tried.lost if tried else ())
        lost = None if tried is None or faults else len(losses)
        self._directory.note_verification(
            made.id, verdicts.Verification(depth, at, faults, lost, unread)
        )
        if faults:
            return SetVerdict(made.id, "bad")
        if unread:
            return SetVerdict(made.id, "unknown")
        objects = tried.objects if tried else 0
        return SetVerdict(made.id, "good", at, objects, len(losses), losses)


def _list_losses(made: Manifest, found: Sequence[ObjectFault]) -> list[ObjectFault]:
    """What the data lack: what was found, and blobs that were lost before the backup.

    The latter may be of former states of objects, which nobody else looks at.
    """
    known = []
    for storage in made.storages:
        for path in storage.missing_blobs or ():
            key = key_of_path("bushy", path) or key_of_path("lawn", path)
            oid = key[0].hex() if key else ""
            what = f"is a blob, and the set has no {path}"
            known.append(ObjectFault(storage=storage.id, oid=oid, what=what))
    return [*found, *(loss for loss in known if loss not in found)]
