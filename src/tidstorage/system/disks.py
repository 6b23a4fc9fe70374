"""Is there room for what is to be written?  Asked before anything is."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tidstorage.errors import NoSpace


def refuse_lack(needed: Mapping[Path, int], what: str, hint: str) -> None:
    """NoSpace where a file system has not the room for all that is to come to it.

    needed: {where something is to be: its bytes}; neither it nor its folder has to
    be there yet.  what: that needs the room, in words.
    """
    sums: dict[int, int] = {}
    where: dict[int, Path] = {}
    for path, size in needed.items():
        folder = next(each for each in (path, *path.parents) if each.is_dir())
        device = folder.stat().st_dev
        sums[device] = sums.get(device, 0) + size
        where.setdefault(device, folder)
    for device, size in sums.items():
        free = shutil.disk_usage(where[device]).free
        if free < size:
            raise NoSpace(
                f"the file system of {where[device]} has {free:,} bytes free; {what}"
                f" needs {size:,}",
                hint,
            )


def on_one_disk(folder: Path, data_files: Iterable[Path]) -> list[Path]:
    """Those that lie on the file system of the folder, and are lost with it."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    device = existing.stat().st_dev
    return [each for each in data_files if each.stat().st_dev == device]
