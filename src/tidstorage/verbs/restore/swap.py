"""Last phase of a restore: the new files take the place of the old ones.

What is to be done is written down first, durably.  Every action can be done
twice, so that a run that was cut off is ended by doing all of them again; until
then the cluster must not be started.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tidstorage.coherence import tid
from tidstorage.engines.filestorage import lock
from tidstorage.engines.filestorage.truncation import truncate_held
from tidstorage.errors import FileUnreadable, InterruptedRestore, NotCoherent
from tidstorage.points.beside import point_path, write_beside
from tidstorage.sets.stored import StoredPoint
from tidstorage.system import durable, json_file, users
from tidstorage.system.json_file import StoredPath, StoredPathText

_BEGIN_ANEW = (
    "Remove it and run the restore again, which then begins anew. The files that the"
    " interrupted one had moved away stay as *.before-restore-*."
)
_GO_ON = (
    "run the same restore again: it goes on where it stopped. Until then start no"
    " server."
)


@dataclass(frozen=True, slots=True)
class Action:
    """One step.

    keep: rename ``path`` to ``other``; done where ``other`` exists.  place:
    rename ``path`` to ``other``; done where ``path`` is gone.  remove: delete
    ``path``, a file or a folder with all in it.  cut: drop what follows the TID
    ``last`` in the Data.fs ``path``, and save it as ``other`` before.
    """

    kind: Literal["keep", "place", "remove", "cut"]
    path: StoredPathText
    other: StoredPathText = ""
    last: str = ""


@dataclass(frozen=True, slots=True)
class Swap:
    """All actions, in their order, and the point to leave beside the files."""

    __pydantic_config__ = json_file.EXACT

    version: Literal[1]
    set_id: Annotated[str, Field(alias="set")]
    actions: list[Action]
    point: StoredPoint
    data_files: list[StoredPath]


def write(swap: Swap, path: Path) -> None:
    """Write the journal: from now on the swap has to be ended."""
    json_file.write(path, swap)


def read(path: Path) -> Swap:
    """Read the swap in a journal.

    Raises: FileUnreadable: where it is not one.
    """
    swap = json_file.read(path, Swap, "a restore's journal", _BEGIN_ANEW)
    for action in swap.actions:
        if action.kind == "cut" and not _is_tid(action.last):
            raise FileUnreadable(
                f"{path} is not a restore's journal: {action.last!r} is no TID",
                _BEGIN_ANEW,
            )
    return swap


def _is_tid(text: str) -> bool:
    try:
        tid.from_text(text)
    except ValueError:
        return False
    return True


def execute(swap: Swap) -> None:
    """Do, or do to the end, all that the swap has to do."""
    for action in swap.actions:
        perform_action(action)
    write_beside(swap.point, swap.data_files)
    for path in swap.data_files:
        users.give_like((point_path(path), lock.path_of(path)), path)


def finish(swap: Swap, path: Path, note: Callable[[], None] = lambda: None) -> None:
    """Bring a swap to its end, and remove its journal.

    note: called once the files are in place, and again where that was cut off.

    Raises: InterruptedRestore: where it stops; the next run goes on.
    """
    try:
        execute(swap)
        note()
        path.unlink()
        # One that came back with a power cut would undo the point of what follows.
        durable.sync_folder(path.parent)
    except OSError as error:
        raise InterruptedRestore(
            f"the swap of set {swap.set_id} stopped in the middle: {error}",
            f"Mend that, then {_GO_ON}",
        ) from error
    except KeyboardInterrupt as error:
        raise InterruptedRestore(
            f"interrupted in the middle of the swap of set {swap.set_id}",
            _GO_ON.capitalize(),
        ) from error


def perform_action(action: Action) -> None:
    """Do one action, unless it was done before; the files' locks are held."""
    path, other = Path(action.path), Path(action.other)
    if action.kind == "remove":
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    elif action.kind == "cut":
        truncate_held(path, tid.from_text(action.last), other)
    elif action.kind == "keep":
        if not os.path.lexists(other):
            _rename(path, other)
    elif os.path.lexists(path):
        _rename(path, other)
    elif not os.path.lexists(other):
        raise NotCoherent(
            f"neither {path} nor {other} is there: the swap cannot be ended",
            "The files it replaced are kept beside, as *.before-restore-*.",
        )


def _rename(path: Path, other: Path) -> None:
    if os.path.lexists(other):
        raise NotCoherent(
            f"{other} appeared while {path} was to take its place",
            "Move it away, then run the restore again: it goes on where it stopped.",
        )
    path.rename(other)
    durable.sync_folder(other.parent)
