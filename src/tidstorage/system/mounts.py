"""Mounts: what may not be renamed, and where nothing can be renamed to.

A device number does not tell: a bind mount shows a folder of the same file system, and
yet the system renames nothing across it.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
#: Its fifth field is where something is mounted.
_PLACE = 4


def are_on_one_mount(first: Path, second: Path) -> bool:
    """Whether a file can be renamed from the one folder into the other.

    Links are followed.

    Raises: OSError: as the system says.
    """
    return _identify_mount(first) == _identify_mount(second)


def is_mount_point(folder: Path) -> bool:
    """Whether something is mounted there, so that it cannot be renamed.

    Raises: OSError: as the system says.
    """
    real = folder.resolve()
    return real.is_mount() or not are_on_one_mount(real, real.parent)


def find_mount_points_below(folder: Path) -> list[Path]:
    """The folders below a folder on which something is mounted.

    None where the system does not tell.
    """
    real = folder.resolve()
    return [place for place in _list_mount_points() if real in place.parents]


def _identify_mount(path: Path) -> tuple[str, int]:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        described = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        for line in described.splitlines():
            name, _, value = line.partition(":")
            if name == "mnt_id":
                return name, int(value)
    except OSError:
        # Without /proc the device is all that there is.
        pass
    finally:
        os.close(descriptor)
    return "device", path.stat().st_dev


def _list_mount_points() -> Iterator[Path]:
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        place = re.sub(rb"\\([0-7]{3})", _unescape, line.split(b" ")[_PLACE])
        yield Path(os.fsdecode(place))


def _unescape(match: re.Match[bytes]) -> bytes:
    """Blanks and the like, which the system writes as octal numbers."""
    return bytes([int(match[1], 8)])
