"""Room on disk: whether what is to be written fits, and what a full disk answers."""

import errno
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.errors import NoSpace

#: What the system answers where a disk, a quota or a limit for files is exhausted.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Room:
    """What is to be written to one file system, and what is free there, in bytes.

    folder: one on that file system.
    """

    folder: Path
    needed: int
    free: int


def find_room(needed: Mapping[Path, int]) -> list[Room]:
    """The room on each file system that something is to be written to.

    needed: {where something is to be: its bytes}; neither it nor its folder has to
    be there yet.
    """
    sums: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for path, size in needed.items():
        folder = next(place for place in (path, *path.parents) if place.is_dir())
        device = folder.stat().st_dev
        sums[device] = sums.get(device, 0) + size
        folders.setdefault(device, folder)
    return [
        Room(folders[device], size, shutil.disk_usage(folders[device]).free)
        for device, size in sums.items()
    ]


def refuse_lack(needed: Mapping[Path, int], what: str, hint: str) -> None:
    """Refuse to begin what does not fit; asked before anything is written.

    needed: as `find_room` takes it.  what: that needs the room, in words.

    Raises: NoSpace: where a file system has not the room for all that is to come.
    """
    for room in find_room(needed):
        if room.free < room.needed:
            raise NoSpace(
                f"the file system of {room.folder} has {room.free:,} bytes free;"
                f" {what} needs {room.needed:,}",
                hint,
            )


def is_full(error: OSError) -> bool:
    """Whether the error says that a disk, a quota or a limit for files is exhausted."""
    return error.errno in FULL


def on_one_disk(folder: Path, data_files: Iterable[Path]) -> list[Path]:
    """Those files that lie on the file system of the folder, and are lost with it."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    device = existing.stat().st_dev
    return [path for path in data_files if path.stat().st_dev == device]
