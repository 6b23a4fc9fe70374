"""Cutting a Data.fs in place, so that nothing is lost and any crash is mended.

The order is what makes it safe: the dropped bytes are on disk before anything
changes, the index is wound back before the file is cut (an index that ends
early is right, one that ends late is not), and each step finds what a former
run of it left.
"""

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.coherence import tid
from tidstorage.engines.filestorage import index, lock
from tidstorage.engines.filestorage.copying import errors_named, save_range
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.format import FINISHED, HEADER
from tidstorage.errors import FileUnreadable, TargetExists
from tidstorage.system import json_file
from tidstorage.system.json_file import StoredPathText

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Description:
    """What stands beside dropped bytes: of which file, and from where.

    last: TID of the last transaction that was kept.  position, size: the bytes are
    those from the one up to the other.  sha256: of them, in hex.  restore: what to do
    with them, in words.
    """

    __pydantic_config__ = json_file.EXACT

    version: Literal[1]
    file: StoredPathText
    last: str
    position: int
    size: int
    sha256: str
    restore: str


def truncate(path: Path, last: int, keep: Path | None = None) -> int:
    """Drop all that follows the last transaction at or below the TID ``last``.

    An unfinished transaction at the end is dropped too.  With ``keep``, the
    dropped bytes are first saved there, and `<keep>.json` says what they are:
    appended to the file at ``position`` they restore it.  Nothing is saved where
    nothing is dropped.

    Returns the length of the file afterwards.  A second run after a crash, with
    the same arguments, ends what the first began.

    Raises:
      ClusterRunning: where a server has the file open
      NoSpace: where the dropped bytes find no room
      EngineFailed: where ``keep`` holds something else, or the system fails
      FileUnreadable: where the file is missing or broken
    """
    with errors_named(path), lock.held(path):
        return truncate_held(path, last, keep)


def truncate_held(path: Path, last: int, keep: Path | None) -> int:
    """`truncate`, for a caller that holds the file's lock."""
    # The order of the steps is what the module's first lines tell.
    with errors_named(path):
        with DataFile(path) as data_file:
            position = data_file.boundary_after(last)
            size = data_file.size()
            if position < size and keep is not None:
                save_dropped(data_file, keep, position, size, last)
        index.wind_back(path, position)
        if position < size:
            cut_off(path, position)
    return position


def end_before(dropped: Path) -> int:
    """Up to which TID there was nothing between what was kept and what was dropped.

    0 where nothing finished was dropped: what others saw of a vote tells nothing.
    """
    try:
        with dropped.open("rb") as stream:
            header = stream.read(HEADER.size)
    except FileNotFoundError:
        return 0
    if len(header) < HEADER.size:
        return 0
    first, _, status, *_ = HEADER.unpack(header)
    return int(first) - 1 if status in FINISHED else 0


def save_dropped(
    data_file: DataFile, keep: Path, position: int, size: int, last: int
) -> None:
    """Write the bytes from ``position`` on to ``keep``, described beside it.

    The description comes first: bytes without one are not ours, and are never
    written over.

    Raises:
      NoSpace: where they find no room
      EngineFailed: where ``keep`` holds something else, or the system fails
    """
    description = Description(
        version=1,
        file=str(data_file.path.absolute()),
        last=tid.to_text(last),
        position=position,
        size=size,
        sha256=_digest(data_file.descriptor, position, size),
        restore="append the bytes to the file when it is as long as position",
    )
    beside = keep.with_name(keep.name + ".json")
    if beside.exists() or keep.exists():
        if _read_description(beside) != description:
            raise TargetExists(
                f"{keep} holds what was dropped another time", "Move it away first."
            )
        if keep.exists():
            _refuse_other_bytes(keep, description)
            return
    json_file.write(beside, description)
    with errors_named(keep):
        save_range(data_file.descriptor, keep, position, size - position)


def _read_description(path: Path) -> Description | None:
    try:
        return json_file.read(path, Description, "a description of dropped bytes")
    except FileUnreadable:
        # Whatever it is, it is not what is about to be written.
        return None


def _refuse_other_bytes(keep: Path, description: Description) -> None:
    descriptor = os.open(keep, os.O_RDONLY | os.O_CLOEXEC)
    try:
        digest = _digest(descriptor, 0, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
    if digest != description.sha256:
        raise TargetExists(
            f"{keep} is not what its description says", "Move it away first."
        )


def _digest(descriptor: int, start: int, end: int) -> str:
    digest = hashlib.sha256()
    while start < end:
        block = os.pread(descriptor, min(_CHUNK, end - start), start)
        if not block:
            raise OSError(errno.EIO, "the file became shorter while it was read")
        digest.update(block)
        start += len(block)
    return digest.hexdigest()


def cut_off(path: Path, position: int) -> None:
    """Make the file end at ``position``, durably.

    Raises: OSError: where the system fails.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, position)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
