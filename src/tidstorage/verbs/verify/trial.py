"""A set restored to scratch, to be looked at: staged, cut and judged as a restore does.

What a run has staged stays where its time was over, so that the next one goes on
with it.  Blobs are not copied: their files are read where they are.
"""

import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines.filestorage import index
from tidstorage.errors import FileUnreadable
from tidstorage.operation.progress import Phase
from tidstorage.sets import renaming
from tidstorage.sets.manifest import Manifest, StoredStorage
from tidstorage.system import disks, durable, json_file, private_files
from tidstorage.system.json_file import Shape
from tidstorage.verbs.restore import assemble, check, cutting
from tidstorage.verbs.restore.plan import Policy
from tidstorage.verbs.restore.target import Target
from tidstorage.verbs.verify.budget import OutOfTime, TimeBudget

_PROGRESS = "verify.json"
MAKE_ROOM = "Make room, or name another place with scratch in [verify]."
_FOLDER = re.compile(r"verify-(\d{8}T\d{6}Z)")


class ObjectFault(Shape):
    """Something that the data lack, in words.

    storage, oid: of the object that it is about; the oid in hex.
    """

    storage: str
    oid: str
    what: str


class TrialProgress(Shape):
    """How far the trial of a set is.

    staged: ids of storages whose file is there.  is_cut: all of them are, and they
    fit together.  read: {storage id: oid of the last object that was read, in hex}.
    objects: how many were read.  unresolved: references whose target is not there,
    from whichever object.  lost: all else that is wrong with the objects read so far.
    """

    version: Literal[1] = 1
    staged: tuple[str, ...] = ()
    is_cut: bool = False
    read: dict[str, str] = {}
    objects: int = 0
    unresolved: int = 0
    lost: tuple[ObjectFault, ...] = ()


class Trial:
    """One set in its folder below the scratch folder of [verify].

    manifest: of the set, under the ids that its storages have by now.  targets:
    {storage id: where it is staged}, without blobs.  progress: how far it is.

    Raises: NotCoherent: where two storages of the set are one by now.
    """

    def __init__(self, cluster: Cluster, made: Manifest) -> None:
        self.cluster = cluster
        self.manifest = renaming.rename_storages(made, cluster.aliases)
        self.folder = folder_of(cluster, made.id)
        self.targets = {
            storage.id: _target(self.folder / storage.id)
            for storage in self.manifest.storages
        }
        self.progress = read_progress(self.folder)
        if not self.targets.keys() >= {*self.progress.staged}:
            # A storage has got another name since: its file lies under the old one.
            remove(self.folder)
            self.progress = TrialProgress()

    def keep(self, progress: TrialProgress) -> None:
        """Let the next run go on from there."""
        write_progress(self.folder, progress)
        self.progress = progress

    def stage(self, budget: TimeBudget, phase: Phase) -> None:
        """Restore the set up to its point, or go on with what is staged already.

        Raises:
          NotCoherent: it cannot be restored.
          NoSpace: there is not the room for it; nothing was written.
          OutOfTime: the time is over; what is staged is kept for the next run.
        """
        phase.advance(sum(storage.size for storage in self._storages(staged=True)))
        if self.progress.is_cut:
            return
        self._refuse_lack_of_space()
        private_files.make_folder(self.folder)
        for storage in self._storages(staged=False):
            if budget.is_over():
                raise OutOfTime
            target = self.targets[storage.id]
            target.remove_staging()
            with phase.item(storage.id):
                assemble.data_file(self.cluster.backup.directory, storage, target)
                durable.sync_file(target.staged_data_file)
            phase.advance(storage.size)
            staged = (*self.progress.staged, storage.id)
            self.keep(self.progress.model_copy(update={"staged": staged}))
            budget.note_progress()
        self._cut()

    def _storages(self, *, staged: bool) -> list[StoredStorage]:
        """The storages whose file is staged by now, or those whose file is not."""
        return [
            storage
            for storage in self.manifest.storages
            if (storage.id in self.progress.staged) == staged
        ]

    def _cut(self) -> None:
        """Cut the staged files at the set's point, and judge what is left."""
        staged = self.progress
        # Who is killed amid the cut must not cut once more what is cut already.
        self.keep(TrialProgress())
        # Half commits that the set names are in it: what is there is looked at.
        policy: Policy = "tolerant" if self.manifest.point.damage else "clean"
        cut = cutting.cut_of_set(self.manifest, policy)
        data_files = {
            storage_id: target.staged_data_file
            for storage_id, target in self.targets.items()
        }
        ends = cutting.ends_before(data_files, cut.vector)
        cutting.cut_staged(self.targets, cut.vector)
        for storage_id, target in self.targets.items():
            check.refuse_unsound(storage_id, target)
        check.check(self.cluster, self.manifest, policy, data_files, cut, ends)
        self.keep(staged.model_copy(update={"is_cut": True}))

    def _refuse_lack_of_space(self) -> None:
        """Refuse where the storages that are not staged yet cannot fit."""
        left = self._storages(staged=False)
        needed = sum(storage.size - storage.holes for storage in left)
        what = f"set {self.manifest.id}, restored to scratch,"
        disks.refuse_lack({self.folder: needed}, what, MAKE_ROOM)


def _target(folder: Path) -> Target:
    data_file = folder / "Data.fs"
    return Target(data_file, index.path_of(data_file), None)


def folder_of(cluster: Cluster, set_id: str) -> Path:
    """Where a set is restored to."""
    return cluster.verify.scratch / f"verify-{set_id}"


def remove_others(cluster: Cluster, wanted: Collection[str]) -> None:
    """Remove what runs have left of other sets, be these still there or not.

    wanted: ids of the sets whose trials stay.
    """
    if not cluster.verify.scratch.is_dir():
        return
    for folder in cluster.verify.scratch.iterdir():
        match = _FOLDER.fullmatch(folder.name)
        if match and match[1] not in wanted and not folder.is_symlink():
            remove(folder)


def remove(folder: Path) -> None:
    """Remove the trial of a set, whose folder need not be there."""
    # First what would tell the next run to go on with the rest.
    (folder / _PROGRESS).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def read_progress(folder: Path) -> TrialProgress:
    """How far an earlier run came; the beginning, where nobody can tell."""
    try:
        return json_file.read(
            folder / _PROGRESS, TrialProgress, "the state of a verify", ""
        )
    except FileUnreadable:
        return TrialProgress()


def write_progress(folder: Path, progress: TrialProgress) -> None:
    """Keep how far the trial in that folder is."""
    json_file.write(folder / _PROGRESS, progress)
