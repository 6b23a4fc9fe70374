"""Reads the files of sets, each once a round, until the time is over."""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster
from tidstorage.operation.progress import Operation, Phase
from tidstorage.sets import verdicts
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.sets.verdicts import Depth, Fault
from tidstorage.system import clock
from tidstorage.verbs.verify import files
from tidstorage.verbs.verify.budget import Budget, OutOfTime
from tidstorage.verbs.verify.costs import Cost, cost
from tidstorage.verbs.verify.files import Item
from tidstorage.verbs.verify.memory import Memory

#: Bad files that are told one by one.
MOST_TOLD = 100


@dataclass(frozen=True, slots=True)
class Found:
    """at: when the first file was read.  bad: (path, what is wrong) of each.

    size: bytes of all.
    """

    at: datetime.datetime
    bad: Sequence[tuple[str, str]]
    size: int


class Checker:
    """One run over some sets; depth: of files, whatever is looked at besides.

    costs: of every file found bad so far, up to MOST_TOLD; untold: how many more.
    """

    def __init__(
        self,
        cluster: Cluster,
        directory: BackupDirectory,
        depth: Depth,
        memory: Memory,
        budget: Budget,
        operation: Operation,
    ) -> None:
        self.costs: list[Cost] = []
        self.untold = 0
        self.cluster = cluster
        self.directory = directory
        self.depth = depth
        self._memory = memory
        self.budget = budget
        self.operation = operation
        self._bad: dict[str, str] = {}
        #: {path of a list of blobs: what was found of the blobs in it}
        self._lists: dict[str, Found] = {}
        self._bad_before = verdicts.find_bad_files(directory.verdicts().values())

    def check(self, made: Manifest) -> Found:
        """What a set is made of; OutOfTime where not all of it could be read."""
        total = sum(each.size for each in made.files())
        total += sum(each.blob_bytes for each in made.storages)
        with self.operation.phase(f"read files of set {made.id}", total) as phase:
            named = [*files.named(made)]
            found = [self._check(named, phase)]
            for each in named:
                if each.kind == "blob list":
                    found.append(self._check_list(each, phase))
        bad = [one for each in found for one in each.bad]
        return Found(min(each.at for each in found), bad, total)

    def _check_list(self, item: Item, phase: Phase) -> Found:
        """The blobs that a list names; lists are shared, too."""
        path = item.stored.path
        if path in self._lists:
            phase.advance(self._lists[path].size)
        else:
            held = files.stored_blobs(self.directory.path, [item])
            self._lists[path] = self._check(held, phase)
        return self._lists[path]

    def _check(self, items: Iterable[Item], phase: Phase) -> Found:
        first, bad, size = clock.now(), [], 0
        for item in items:
            size += item.stored.size
            at = self._good_since(item, phase)
            if at is not None:
                first = min(first, at)
            elif item.kind != "index":
                # A set is whole without one.
                path = item.stored.path
                bad.append((path, self._bad[path]))
        return Found(first, bad, size)

    def _good_since(self, item: Item, phase: Phase) -> datetime.datetime | None:
        """When a file was found good; None where it is bad."""
        path = item.stored.path
        if path in self._bad:
            return None
        at = self._memory.good_since(item.stored)
        if at is not None:
            phase.advance(item.stored.size)
            return at
        if self.budget.is_over():
            raise OutOfTime
        at = clock.now()
        with phase.item(path):
            what = files.fault(
                self.directory.path, item.stored, self.depth, phase.advance
            )
            if item.kind == "index" and what == files.MISSING:
                what = None
        self.budget.spend()
        if what is not None:
            self._tell(item, what)
            return None
        self._memory.note(item.stored, at)
        if path in self._bad_before:
            self.directory.forget_fault(path, self.depth)
        return at

    def _tell(self, item: Item, what: str) -> None:
        """Let all sets know that need it; whoever is killed now has told it."""
        path = item.stored.path
        self._bad[path] = what
        if len(self.costs) >= MOST_TOLD:
            # A disk is gone; what each of its files costs would take days to tell.
            self.untold += 1
            return
        sets = self.directory.sets()
        costs = cost(self.cluster, self.directory.path, sets, item, what)
        if costs.sets:
            # Else the set was pruned meanwhile, and the file with it.
            self.costs.append(costs)
        if costs.sets and item.kind != "index":
            fault = Fault(path=path, what=what, depth=self.depth)
            self.directory.note_fault(costs.sets, fault)
