"""Files that are either wholly there after a crash, or not at all."""

import os
from pathlib import Path

_UNFINISHED = ".new"


def replace_text(path: Path, text: str, mode: int = 0o600) -> None:
    """Write ``path`` so that it holds the old text or the new, never a part.

    Written beside, flushed to disk, renamed over; the folder is flushed too.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{_UNFINISHED}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(beside, flags, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def is_unfinished(path: Path) -> bool:
    """Whether a write that was cut off, or is under way, is what is there."""
    return path.name.startswith(".") and path.name.endswith(_UNFINISHED)


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that a rename in it outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
