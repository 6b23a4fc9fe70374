"""Files and lines that are either wholly there after a crash, or not at all."""

import os
from pathlib import Path
from typing import BinaryIO

_UNFINISHED = ".new"


def replace_text(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file so that it holds the old text or the new one, never a part.

    The text is written to another file beside it, flushed to disk, and renamed over
    the old file; the folder is flushed too.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{_UNFINISHED}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(beside, flags, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            # Before the rename: else a power cut could leave the new name empty.
            os.fsync(stream.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def is_unfinished(path: Path) -> bool:
    """Whether it is the file of a `replace_text` that was cut off, or is under way."""
    return path.name.startswith(".") and path.name.endswith(_UNFINISHED)


def sync_file(path: Path) -> None:
    """Flush to disk what a file holds, whoever wrote it."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that a rename in it outlives a power cut."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cut_torn_line(stream: BinaryIO) -> None:
    """Make an append-only file of lines end with a whole line.

    What follows the last line feed is cut off: after a crash nothing tells
    whether it is whole.
    """
    end = stream.seek(0, os.SEEK_END)
    position = end
    while position:
        start = max(position - 4096, 0)
        stream.seek(start)
        line_feed = stream.read(position - start).rfind(b"\n")
        if line_feed >= 0:
            position = start + line_feed + 1
            break
        position = start
    if position < end:
        os.ftruncate(stream.fileno(), position)
