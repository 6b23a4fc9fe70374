"""What an interrupted restore leaves, and how the next run knows it.

In the place of the live files it is no state for any server to open.  Elsewhere a
mark in the folder tells what was begun there, so that it can be begun anew.
"""

import shutil
from collections.abc import Collection
from pathlib import Path

from tidstorage.errors import FileUnreadable
from tidstorage.system import durable, json_file, private_files
from tidstorage.system.json_file import Shape

MARK = ".tidstorage-restoring"


class _Begun(Shape):
    storages: list[str]


def clear(directory: Path) -> None:
    """Remove what a restore into that folder left that was killed, and nothing else."""
    mark = directory / MARK
    try:
        begun = json_file.read(mark, _Begun, "the mark of a restore", "")
    except FileUnreadable:
        # None was begun there, or the mark itself was not finished.
        for path in [*directory.iterdir()] if directory.is_dir() else ():
            if durable.is_unfinished(path) and MARK in path.name:
                path.unlink()
        return
    for storage in begun.storages:
        folder = directory / storage
        # Of what leads elsewhere nothing is ours to remove.
        if Path(storage).name == storage and folder.is_dir():
            shutil.rmtree(folder)
    mark.unlink()


def mark(directory: Path, storages: Collection[str]) -> None:
    """Tell, before anything is written there, which folders are about to be made."""
    private_files.make_folder(directory)
    json_file.write(directory / MARK, _Begun(storages=sorted(storages)))


def unmark(directory: Path) -> None:
    """What is there is whole, or was removed."""
    (directory / MARK).unlink(missing_ok=True)
    durable.sync_folder(directory)
