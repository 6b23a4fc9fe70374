"""Reads the files of sets, each once in a round, until the time is over."""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import NotCoherent, SetUnreadable
from tidstorage.operation.progress import Operation, Phase
from tidstorage.sets import verdicts
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.sets.verdicts import Depth, Fault, Unread
from tidstorage.system import clock, presence
from tidstorage.verbs.verify import files
from tidstorage.verbs.verify.budget import OutOfTime, TimeBudget
from tidstorage.verbs.verify.costs import Cost, cost_of_file
from tidstorage.verbs.verify.files import SetFile
from tidstorage.verbs.verify.good_files import GoodFiles

#: Files that are bad, or could not be read, and are told one by one.
MOST_TOLD = 100


@dataclass(frozen=True, slots=True)
class CheckedFiles:
    """What was found of some files.

    at: when the first of them was read.  bad: (path, what is wrong) of every bad
    one.  unread: (path, what the system said) of every one that could not be read.
    size: bytes of all.
    """

    at: datetime.datetime
    bad: Sequence[tuple[str, str]]
    unread: Sequence[tuple[str, str]]
    size: int


class FileChecker:
    """Checks the files of one set after the other, in one run.

    depth: how deeply files are looked at.  good_files: those that this round has
    found good already.  costs: of every file found bad so far, and unread: of every
    one that could not be read, up to MOST_TOLD of both; untold: how many more are bad,
    or could not be read.
    """

    def __init__(
        self,
        cluster: Cluster,
        directory: BackupDirectory,
        *,
        depth: Depth,
        good_files: GoodFiles,
        budget: TimeBudget,
        operation: Operation,
    ) -> None:
        self.costs: list[Cost] = []
        self.unread: list[Cost] = []
        self.untold = 0
        self._cluster = cluster
        self._directory = directory
        self._depth = depth
        self._good_files = good_files
        self._budget = budget
        self._operation = operation
        #: {path: what is wrong with it}, found in this run.
        self._bad: dict[str, str] = {}
        #: {path: what the system said}, of what this run could not read.
        self._unread: dict[str, str] = {}
        #: {path of a list of blobs: what was found of the blobs in it}
        self._blobs_of_lists: dict[str, CheckedFiles] = {}
        known = [*directory.verdicts().values()]
        self._suspected = {
            *verdicts.find_bad_files(known),
            *verdicts.find_unread_files(known),
        }

    def check(self, made: Manifest) -> CheckedFiles:
        """Look at everything that a set is made of.

        Raises: OutOfTime: not all of it could be read.
        """
        total = sum(stored.size for stored in made.files())
        total += sum(storage.blob_bytes for storage in made.storages)
        with self._operation.phase(f"read files of set {made.id}", total) as phase:
            named = [*files.list_files(made)]
            checked = [self._check_files(named, phase)]
            for file in named:
                if file.kind == "blob list":
                    checked.append(self._check_blobs(file, phase))
        bad = dict(pair for some in checked for pair in some.bad)
        unread = dict(pair for some in checked for pair in some.unread)
        first = min(some.at for some in checked)
        return CheckedFiles(first, [*bad.items()], [*unread.items()], total)

    def _check_blobs(self, blob_list: SetFile, phase: Phase) -> CheckedFiles:
        """The blobs that a list names: once in a run, since sets share lists."""
        path = blob_list.path
        if path in self._blobs_of_lists:
            phase.advance(self._blobs_of_lists[path].size)
        else:
            try:
                blobs = files.list_blobs(self._directory, blob_list)
            except (NotCoherent, SetUnreadable) as error:
                self._note_broken_list(blob_list, error)
                # It names none that could be looked at, and is told again.
                blobs = [blob_list]
            self._blobs_of_lists[path] = self._check_files(blobs, phase)
        return self._blobs_of_lists[path]

    def _note_broken_list(
        self, blob_list: SetFile, error: NotCoherent | SetUnreadable
    ) -> None:
        """Keep that a list names nothing, though it may have been good a moment ago."""
        if blob_list.path in self._bad or blob_list.path in self._unread:
            return
        if isinstance(error.__cause__, OSError) and isinstance(error, SetUnreadable):
            self._note_unread(blob_list, presence.describe(error.__cause__))
        else:
            self._note_bad(blob_list, "is not what was written")

    def _check_files(self, some: Iterable[SetFile], phase: Phase) -> CheckedFiles:
        first, size = clock.now(), 0
        bad: dict[str, str] = {}
        unread: dict[str, str] = {}
        for file in some:
            size += file.stored.size
            at = self._check_file(file, phase)
            if at is not None:
                first = min(first, at)
            elif file.kind == "index":
                # A set is whole without one.
                continue
            elif file.path in self._bad:
                bad[file.path] = self._bad[file.path]
            else:
                unread[file.path] = self._unread[file.path]
        return CheckedFiles(first, [*bad.items()], [*unread.items()], size)

    def _check_file(self, file: SetFile, phase: Phase) -> datetime.datetime | None:
        """When a file was found good, now or in this round.

        None where it is bad, or could not be read.
        """
        if file.path in self._bad or file.path in self._unread:
            return None
        at = self._good_files.good_since(file.stored)
        if at is not None:
            phase.advance(file.stored.size)
            return at
        if self._budget.is_over():
            raise OutOfTime
        # Of before it is read: what happens to it from now on is not known.
        at = clock.now()
        try:
            with phase.item(file.path):
                what = files.find_fault(
                    self._directory, file.stored, self._depth, phase.advance
                )
        except OSError as error:
            self._budget.note_progress()
            self._note_unread(file, presence.describe(error))
            return None
        if file.kind == "index" and what == files.MISSING:
            what = None
        self._budget.note_progress()
        if what is not None:
            self._note_bad(file, what)
            return None
        self._good_files.note(file.stored, at)
        if file.path in self._suspected:
            self._directory.forget_fault(file.path, self._depth)
        return at

    def _note_bad(self, file: SetFile, what: str) -> None:
        """Keep the fault with all sets that need the file.

        At once, not at the end: a run that is killed after this has told it.
        """
        self._bad[file.path] = what
        cost = self._reckon(file, what)
        if cost is None:
            return
        self.costs.append(cost)
        if file.kind != "index":
            fault = Fault(path=file.path, what=what, depth=self._depth)
            self._directory.note_fault(cost.sets, fault)

    def _note_unread(self, file: SetFile, said: str) -> None:
        """Keep with all sets that need the file that nobody could read it."""
        what = f"could not be read: {said}"
        self._unread[file.path] = what
        cost = self._reckon(file, what)
        if cost is None:
            return
        self.unread.append(cost)
        if file.kind != "index":
            unread = Unread(path=file.path, what=what, depth=self._depth)
            self._directory.note_unread(cost.sets, unread)

    def _reckon(self, file: SetFile, what: str) -> Cost | None:
        """What a file costs; None where it need not be told."""
        # Another round may have read it well some time ago.
        self._good_files.forget(file.path)
        if len(self.costs) + len(self.unread) >= MOST_TOLD:
            # A disk is gone; what each of its files costs would take days to tell.
            self.untold += 1
            return None
        cost = cost_of_file(self._cluster, self._directory, file, what)
        # Else the set was pruned meanwhile, and the file with it.
        return cost if cost.sets else None
