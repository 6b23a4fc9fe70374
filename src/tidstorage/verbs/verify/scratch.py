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
from tidstorage.sets.manifest import Manifest
from tidstorage.system import disks, durable, json_file, private_files
from tidstorage.system.json_file import Shape
from tidstorage.verbs.restore import assemble, check, cutting
from tidstorage.verbs.restore.plan import Policy
from tidstorage.verbs.restore.target import Target
from tidstorage.verbs.verify.budget import Budget, OutOfTime

_STATE = "verify.json"
MAKE_ROOM = "Make room, or name another place with scratch in [verify]."
_FOLDER = re.compile(r"verify-(\d{8}T\d{6}Z)")


class Loss(Shape):
    """Something that the data lack, in words; storage, oid: the object it is about."""

    storage: str
    oid: str
    what: str


class State(Shape):
    """How far the verification of a set is.

    staged: ids of storages whose file is there.  is_cut: all of them are, and they
    fit together.  read: {storage id: oid of the last object that was read, in hex}.
    unresolved: references whose target is not there, from whichever object.  lost:
    all else that is wrong with the objects read so far.
    """

    version: Literal[1] = 1
    staged: tuple[str, ...] = ()
    is_cut: bool = False
    read: dict[str, str] = {}
    objects: int = 0
    unresolved: int = 0
    lost: tuple[Loss, ...] = ()


def folder_of(cluster: Cluster, set_id: str) -> Path:
    """Where a set is restored to."""
    return cluster.verify.scratch / f"verify-{set_id}"


def remove_others(cluster: Cluster, wanted: Collection[str]) -> None:
    """Remove what runs for other sets have left, of sets that are gone, too."""
    if not cluster.verify.scratch.is_dir():
        return
    for folder in cluster.verify.scratch.iterdir():
        match = _FOLDER.fullmatch(folder.name)
        if match and match[1] not in wanted and not folder.is_symlink():
            remove(folder)


def remove(folder: Path) -> None:
    """First what tells the next run to go on with the rest."""
    (folder / _STATE).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def read_state(folder: Path) -> State:
    """How far an earlier run came; the beginning, where nobody can tell."""
    try:
        return json_file.read(folder / _STATE, State, "the state of a verify", "")
    except FileUnreadable:
        return State()


def write_state(folder: Path, state: State) -> None:
    """Let the next run go on from there."""
    durable.replace_text(folder / _STATE, state.model_dump_json() + "\n")


def targets_of(folder: Path, made: Manifest) -> dict[str, Target]:
    """{storage id: where it is staged}, without blobs."""
    found = {}
    for storage in made.storages:
        data_file = folder / storage.id / "Data.fs"
        found[storage.id] = Target(data_file, index.path_of(data_file), None)
    return found


def stage(
    cluster: Cluster, made: Manifest, state: State, budget: Budget, phase: Phase
) -> State:
    """Restore a set, up to its point.

    NotCoherent where it cannot be; NoSpace; OutOfTime, with what is there kept.
    """
    folder = folder_of(cluster, made.id)
    made = renaming.rename_storages(made, cluster.aliases)
    targets = targets_of(folder, made)
    if not state.is_cut:
        _refuse_lack_of_space(folder, made, state)
        private_files.make_folder(folder)
    for storage in made.storages:
        if storage.id in state.staged:
            continue
        if budget.is_over():
            raise OutOfTime
        target = targets[storage.id]
        target.remove_staging()
        with phase.item(storage.id):
            assemble.data_file(cluster.backup.directory, storage, target)
            durable.sync_file(target.staged_data_file)
        phase.advance(storage.size)
        state = state.model_copy(update={"staged": (*state.staged, storage.id)})
        write_state(folder, state)
        budget.spend()
    if not state.is_cut:
        # Who is killed amid the cut must not cut once more what is cut already.
        write_state(folder, State())
        # Half commits that the set names are in it: what is there is looked at.
        policy: Policy = "tolerant" if made.point.damage else "clean"
        cut = cutting.cut_of_set(made, policy)
        files = {each: target.staged_data_file for each, target in targets.items()}
        ends = cutting.ends_before(files, cut.vector)
        cutting.cut_staged(targets, cut.vector)
        for each, target in targets.items():
            check.refuse_unsound(each, target)
        check.check(cluster, made, policy, files, cut, ends)
        state = state.model_copy(update={"is_cut": True})
        write_state(folder, state)
    return state


def _refuse_lack_of_space(folder: Path, made: Manifest, state: State) -> None:
    """NoSpace where the storages that are not staged yet cannot fit."""
    left = [each for each in made.storages if each.id not in state.staged]
    needed = sum(each.size - each.holes for each in left)
    what = f"set {made.id}, restored to scratch,"
    disks.refuse_lack({folder: needed}, what, MAKE_ROOM)
