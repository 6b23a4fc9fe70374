"""The lock a FileStorage holds while it is open for writing.

It is an flock on ``<Data.fs>.lock``; that the file exists says nothing.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from zc.lockfile import LockError, LockFile

from tidstorage.errors import ClusterRunning


def path_of(data_file: Path) -> Path:
    """Where FileStorage keeps the lock of a Data.fs."""
    return data_file.with_name(data_file.name + ".lock")


def is_held(data_file: Path) -> bool:
    """Whether a living process has the file open for writing."""
    return is_locked(path_of(data_file))


def is_locked(path: Path) -> bool:
    """Whether a living process holds a lock on that very file, if there is one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def held(data_file: Path) -> Iterator[None]:
    """Keep every server away from the file for a while.

    Raises: ClusterRunning: where one has it.
    """
    path = path_of(data_file)
    try:
        lock = LockFile(str(path))
    except LockError as error:
        raise ClusterRunning(
            f"{data_file} is open in another process ({_describe_holder(path)})",
            "Stop the ZEO server that serves it.",
        ) from error
    try:
        yield
    finally:
        lock.close()


def holder(data_file: Path) -> int | None:
    """The id of the process that has the file open for writing; None without one.

    As it has written it down itself: it may be of another machine, or container.
    """
    return _written_id(path_of(data_file)) if is_held(data_file) else None


def _describe_holder(path: Path) -> str:
    pid = _written_id(path)
    return "unknown" if pid is None else f"process {pid}"


def _written_id(path: Path) -> int | None:
    """Who the lock file says has it: an id the holder wrote when it began."""
    try:
        return int(path.read_text(errors="replace").split()[-1])
    except (OSError, ValueError, IndexError):
        return None
