"""The files of a blob directory, in either of ZODB's layouts, by their TIDs.

The folders tell a blob's object; the file's name is the transaction's TID.
"""

import errno
import filecmp
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tidstorage.engines.filestorage.copying import errors_named
from tidstorage.errors import TargetExists
from tidstorage.system import durable

_NAME = re.compile(r"0x([0-9a-f]{1,16})\.blob")


def tid_of(path: Path) -> int | None:
    """The TID of the transaction that wrote the blob; None: that is no blob."""
    match = _NAME.fullmatch(path.name)
    return int(match[1], 16) if match else None


def blob_files(directory: Path) -> Iterator[tuple[Path, int]]:
    """(path, TID) of every blob; not what is still being written (``tmp/``).

    Without an order between folders of different objects.

    Raises: OSError: where a folder cannot be read.  One that a pack removes
        meanwhile is passed over.
    """
    for folder, folders, files in os.walk(directory, onerror=_unless_gone):
        if Path(folder) == directory and "tmp" in folders:
            folders.remove("tmp")
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if (number := tid_of(path)) is not None:
                yield path, number


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def above(directory: Path, last: int) -> list[Path]:
    """The blobs of transactions above the TID ``last``."""
    return [path for path, number in blob_files(directory) if number > last]


def move_above(directory: Path, last: int, kept: Path) -> None:
    """Move the blobs above the TID ``last`` to ``kept``, below the same folders.

    A second run after a crash ends what the first began.

    Raises:
      NoSpace: where they find no room
      EngineFailed: where another file is there, or the system fails
    """
    for path in above(directory, last):
        target = kept / path.relative_to(directory)
        with errors_named(target):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _move(path, target)


def _move(path: Path, target: Path) -> None:
    """Move durably, also to another file system; at any time it is in one of the two.

    Raises: EngineFailed: where another file is at the target.
    """
    if target.exists():
        if not filecmp.cmp(path, target, shallow=False):
            raise TargetExists(
                f"{target} holds what was dropped another time", "Move it away first."
            )
        path.unlink()
        return
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(path, target)
        path.unlink()
    durable.sync_folder(target.parent)


def _copy(path: Path, target: Path) -> None:
    beside = target.with_name(f".{target.name}.copying")
    shutil.copy2(path, beside)
    durable.sync_file(beside)
    beside.rename(target)
    durable.sync_folder(target.parent)
