"""Cutting several files in place: all of them or, for the time being, none.

What is to be done is written down first, beside every file.  Each step can be
done twice, so that a run that finds a plan beside any of its files does all of
it again; then the plan goes.  A plan is refused when a file is neither as long
as it was nor as it was to become: then someone has written since.
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer
from ZODB.FileStorage import FileStorage

from tidstorage.coherence import tid
from tidstorage.engines.filestorage import blob_files, index, lock
from tidstorage.engines.filestorage.copying import errors_named
from tidstorage.engines.filestorage.truncation import truncate_held
from tidstorage.errors import ClusterRunning, InterruptedRestore, UnsoundFile
from tidstorage.operation.unfinished import PLAN_SUFFIX, plan_beside
from tidstorage.points.beside import point_path, write_beside
from tidstorage.sets.stored import (
    StoredCommitId,
    StoredPoint,
    StoredTid,
    StoredVector,
)
from tidstorage.system import durable, json_file, users
from tidstorage.system.json_file import StoredPath

_WITHOUT = (
    "Remove it and run this again. What was cut off already is kept beside the"
    " files, as *.dropped-*."
)


@dataclass(frozen=True, slots=True)
class Step:
    """One file: from ``size`` bytes to ``position``, its last TID is ``last`` then.

    dropped: where the bytes go that are cut off.  blob_directory: where the blobs
    are, of which those of dropped transactions go too; None: nobody told.
    """

    __pydantic_config__ = json_file.EXACT

    storage: str
    path: StoredPath
    last: StoredTid
    position: int
    size: int
    dropped: StoredPath
    blob_directory: StoredPath | None

    @property
    def dropped_blobs(self) -> Path:
        """Where those blobs go, below the folders they had."""
        return blobs_beside(self.dropped)


def _sorted_hex(commit_ids: frozenset[bytes]) -> list[str]:
    return sorted(commit_id.hex() for commit_id in commit_ids)


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, the point to leave beside the files, and what to remove.

    floor, accepted: what the cut was computed from, see `tails.cut_files`.
    remove: caches of the lost timeline, files or folders.
    """

    __pydantic_config__ = json_file.EXACT

    version: Literal[1]
    steps: Annotated[list[Step], Field(min_length=1)]
    floor: StoredVector
    accepted: Annotated[frozenset[StoredCommitId], PlainSerializer(_sorted_hex)]
    point: StoredPoint
    remove: list[StoredPath]


@contextlib.contextmanager
def locked(paths: Iterable[Path]) -> Iterator[None]:
    """Keep every server away from all files, for the length of a ``with`` block.

    Raises: ClusterRunning: where a server has one of them open.
    """
    with contextlib.ExitStack() as stack:
        for path in paths:
            _refuse_open_behind_link(path)
            stack.enter_context(errors_named(path))
            stack.enter_context(lock.held(path))
        yield


def _refuse_open_behind_link(path: Path) -> None:
    """A server that was given the file itself has its lock there, not at the link."""
    file = path.resolve()
    if file != path.absolute() and lock.is_held(file):
        raise ClusterRunning(
            f"{file}, to which {path} leads, is open in another process",
            "Stop the ZEO server that serves it.",
        )


def interrupted(paths: Iterable[Path]) -> Plan | None:
    """The plan of a run that did not come to its end, if one of the files has one.

    Raises: InterruptedRestore: where a file has changed since.
    """
    for path in map(plan_beside, paths):
        if path.exists():
            plan = json_file.read(path, Plan, "a plan to cut", _WITHOUT)
            _refuse_changed(plan, path)
            return plan
    return None


def write(plan: Plan) -> None:
    """Write the plan: from now on it has to be brought to its end."""
    for step in plan.steps:
        with errors_named(plan_beside(step.path)):
            json_file.write(plan_beside(step.path), plan)


def _refuse_changed(plan: Plan, path: Path) -> None:
    for step in plan.steps:
        size = step.path.stat().st_size if step.path.exists() else -1
        if size not in (step.size, step.position):
            raise InterruptedRestore(
                f"{path} is the plan of an interrupted run, and {step.path} has"
                " changed since then",
                "If the files are to stay as they are now, remove every"
                f" *{PLAN_SUFFIX} beside them, and run this again.",
            )


def cut(plan: Plan) -> None:
    """Cut all files, those that are cut already too; the caller holds the locks.

    Then the blobs of what was dropped are moved away.

    Raises: NotCoherent: where ZODB does not find the end where it should be.
    """
    for step in plan.steps:
        truncate_held(step.path, step.last, step.dropped)
    for step in plan.steps:
        _check_with_zodb(step)
    for step in plan.steps:
        if step.blob_directory is not None and step.position < step.size:
            blob_files.move_above(step.blob_directory, step.last, step.dropped_blobs)


def finish(plan: Plan) -> None:
    """After the cut: remove the caches, leave the point, and end the plan."""
    for path in plan.remove:
        with errors_named(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    with errors_named(plan.steps[0].path):
        write_beside(plan.point, [step.path for step in plan.steps])
        for step in plan.steps:
            users.give_like(_made_beside(step), step.path)
        for step in plan.steps:
            plan_beside(step.path).unlink(missing_ok=True)
            durable.sync_folder(step.path.parent)


def dropped_blobs(plan: Plan) -> dict[str, int]:
    """{storage id: blobs of dropped transactions}, moved or still to be moved."""
    blobs = {}
    for step in plan.steps:
        if step.blob_directory is not None and step.position < step.size:
            blobs[step.storage] = len(
                blob_files.above(step.blob_directory, step.last)
            ) + len(blob_files.above(step.dropped_blobs, step.last))
    return {storage: number for storage, number in blobs.items() if number}


def _made_beside(step: Step) -> Iterable[Path]:
    return (
        index.path_of(step.path),
        lock.path_of(step.path),
        point_path(step.path),
        *_made_of(step.dropped),
    )


def blobs_beside(dropped: Path) -> Path:
    """Where the blobs go that belong to what is dropped."""
    return dropped.with_name(f"{dropped.name}.blobs")


def is_kept(dropped: Path) -> bool:
    """Whether something was dropped under that name already."""
    return any(path.exists() for path in _made_of(dropped))


def _made_of(dropped: Path) -> tuple[Path, Path, Path]:
    return (
        dropped,
        dropped.with_name(f"{dropped.name}.json"),
        blobs_beside(dropped),
    )


def _check_with_zodb(step: Step) -> None:
    try:
        opened = FileStorage(str(step.path), read_only=True)
    except Exception as error:
        # FileStorage raises classes of its own, of struct and of pickle for
        # what is not a sound file.
        raise UnsoundFile(f"ZODB cannot open {step.path}: {error}") from error
    end = tid.from_bytes(opened.lastTransaction()), opened.getSize()
    opened.close()
    if end != (step.last, step.position):
        raise UnsoundFile(
            f"ZODB finds another end of {step.path} than was planned:"
            f" {tid.to_text(end[0])} at byte {end[1]}, not"
            f" {tid.to_text(step.last)} at byte {step.position}"
        )
