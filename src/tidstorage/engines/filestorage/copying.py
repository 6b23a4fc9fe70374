"""Bytes from one file to another, by the kernel where it can.

``copy_file_range`` shares the blocks on file systems that can (XFS, btrfs), and
spares the way through our memory on all others.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from tidstorage.errors import EngineFailed, NoSpace
from tidstorage.system import disks, durable

_CHUNK = 64 * 1024 * 1024
_CHUNK_IN_MEMORY = 1024 * 1024
_ZEROS = bytes(_CHUNK_IN_MEMORY)
#: A stretch of zeros as long is worth a hole.
_HOLE = 64 * 1024
_SHORTER = "the file became shorter while it was copied"
#: What kernels answer where they cannot copy between these two files.
_NOT_BY_KERNEL = (
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EBADF,
)


@contextlib.contextmanager
def errors_named(target: Path) -> Iterator[None]:
    """Give every OSError in the block as one of ours, which names the file.

    Raises:
      NoSpace: where there is no room
      EngineFailed: where the system fails otherwise
    """
    try:
        yield
    except OSError as error:
        what = f"{target}: {error.strerror}"
        if disks.is_full(error):
            raise NoSpace(what, "Make room and run it again.") from error
        raise EngineFailed(what) from error


@contextlib.contextmanager
def _written(path: Path) -> Iterator[int]:
    """A descriptor of a new file that is on disk at the end, or gone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
        os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def save_range(source: int, path: Path, start: int, length: int) -> None:
    """Write a stretch of an open file to a file of its own, durably."""
    beside = path.with_name(f".{path.name}.copying")
    with _written(beside) as descriptor:
        copy_range(source, descriptor, start, length)
    beside.rename(path)
    durable.sync_folder(path.parent)


def copy_range(source: int, target: int, start: int, length: int) -> None:
    """Copy bytes to the start of the file ``target``; holes stay holes.

    Raises: OSError: where the source has fewer bytes, or as the system says.
    """
    end = start + length
    for data_start, data_end in _data_between(source, start, end):
        position = data_start
        while position < data_end:
            position += _copy_some(
                source, target, position, position - start, data_end - position
            )
    os.ftruncate(target, length)


def read_range(source: int, start: int, length: int) -> Iterator[bytes]:
    """A stretch of an open file in blocks; what is a hole in it is not read.

    Raises: OSError: where the file has fewer bytes, or as the system says.
    """
    end = start + length
    position = start
    for data_start, data_end in _data_between(source, start, end):
        yield from _zeros(data_start - position)
        position = data_start
        while position < data_end:
            count = min(data_end - position, _CHUNK_IN_MEMORY)
            with _named(source):
                block = os.pread(source, count, position)
                if not block:
                    raise OSError(errno.EIO, _SHORTER)
            yield block
            position += len(block)
    if os.fstat(source).st_size < end:
        raise OSError(errno.EIO, _SHORTER)
    yield from _zeros(end - position)


@contextlib.contextmanager
def _named(descriptor: int) -> Iterator[None]:
    """Let an OSError tell which file it was, as far as the system knows."""
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            error.filename = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        raise


def _zeros(count: int) -> Iterator[bytes]:
    while count >= len(_ZEROS):
        yield _ZEROS
        count -= len(_ZEROS)
    if count:
        yield bytes(count)


def room_spared(source: int, length: int) -> int:
    """For how many of the first bytes of an open file `SparseWriter` needs no room.

    At least: zeros that are no hole in that file are not looked for.
    """
    spared = position = 0
    for start, end in (*_data_between(source, 0, length), (length, length)):
        # A hole need not begin or end where one of ours does.
        spared += max(0, start - position - 2 * _HOLE)
        position = end
    return spared


class SparseWriter:
    """Writes a new file from its start to its end, and leaves holes for zeros."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0

    def tell(self) -> int:
        """How many bytes were written so far, those in holes too."""
        return self._position

    def write(self, data: bytes) -> int:
        """Append some bytes.

        Raises: OSError: where the system fails.
        """
        if data != _ZEROS:
            start = 0
            for offset in range(0, len(data), _HOLE):
                # The first byte tells nearly always, without a copy.
                piece = b"" if data[offset] else data[offset : offset + _HOLE]
                if piece and piece == _ZEROS[: len(piece)]:
                    self._write_at(data, start, offset)
                    start = offset + len(piece)
            self._write_at(data, start, len(data))
        self._position += len(data)
        return len(data)

    def _write_at(self, data: bytes, start: int, end: int) -> None:
        left = memoryview(data)[start:end]
        with _named(self._descriptor):
            while left:
                written = os.pwrite(self._descriptor, left, self._position + start)
                left = left[written:]
                start += written

    def finish(self) -> None:
        """Give the file its length, also where it ends with a hole.

        Raises: OSError: where the system fails.
        """
        os.ftruncate(self._descriptor, self._position)


def _data_between(source: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    position = start
    while position < end:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        hole = min(end, os.lseek(source, position, os.SEEK_HOLE))
        if position < end:
            yield position, hole
        position = hole


def _copy_some(
    source: int, target: int, position: int, target_position: int, count: int
) -> int:
    copied = 0
    with contextlib.suppress(AttributeError):
        try:
            copied = os.copy_file_range(
                source, target, min(count, _CHUNK), position, target_position
            )
        except OSError as error:
            if error.errno not in _NOT_BY_KERNEL:
                raise
    if copied:
        return copied
    block = os.pread(source, min(count, _CHUNK_IN_MEMORY), position)
    if not block:
        raise OSError(errno.EIO, _SHORTER)
    return os.pwrite(target, block, target_position)
