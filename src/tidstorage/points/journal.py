"""The journal: everything about each point that the TID log has no room for.

JSON lines, one entry each, only ever appended to, each on disk before ``append``
returns.  ``kind`` names the entry; a kind that a reader does not know is
skipped, so that an older tool reads a newer journal.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tidstorage.errors import FileUnreadable
from tidstorage.points import tid_log
from tidstorage.points.entries import Entry, entry_to_json
from tidstorage.points.entry_shapes import entry_from_json

#: How the line of a point begins.
POINT = b'{"kind": "point"'
_WIRE = b'"source": "wire"'


def read_but_old_points(path: Path) -> Iterator[Entry]:
    """The entries, oldest first; of points in a row only the last of millions.

    Points of wire-only ids are left out.  Nothing where there is no journal yet.
    """
    newest = b""
    for line in whole_lines(path):
        if line.startswith(POINT):
            if _WIRE not in line:
                newest = line
            continue
        for each in (newest, line) if newest else (line,):
            entry = parsed(path, each)
            if entry is not None:
                yield entry
        newest = b""
    entry = parsed(path, newest) if newest else None
    if entry is not None:
        yield entry


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines as they are, but for a torn last one; none without a journal."""
    if not path.exists():
        return
    try:
        with path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield line
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error


def parsed(path: Path, line: bytes) -> Entry | None:
    """The entry in a line of the journal at ``path``; None for a kind not known here.

    Raises: FileUnreadable: where the entry is broken.
    """
    try:
        return entry_from_json(json.loads(line))
    except ValueError as error:
        raise FileUnreadable(
            f"{path}: not an entry of a journal: {line[:80]!r}: {error}"
        ) from error


class Journal:
    """Appends entries; opening heals a torn last line.

    Others append while the daemon does: what is half written by one must be
    neither healed nor cut off by another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = self._open()

    def _open(self) -> BinaryIO:
        stream = self.path.open("ab+", buffering=0)
        try:
            with _alone(stream):
                tid_log.heal(stream)
        except OSError:
            stream.close()
            raise
        return stream

    def append(self, *entries: Entry) -> None:
        """Write the entries, all or none, and flush them; OSError if that fails."""
        data = "".join(
            json.dumps(entry_to_json(each)) + "\n" for each in entries
        ).encode()
        with _alone(self._stream):
            end = self._stream.seek(0, os.SEEK_END)
            try:
                if self._stream.write(data) != len(data):
                    raise OSError(f"{self.path}: no room for a whole entry")
                os.fsync(self._stream.fileno())
            except OSError:
                os.ftruncate(self._stream.fileno(), end)
                raise

    def reopen(self) -> None:
        """Go on in the file that is at the path now."""
        # The old one stays in use where the new one cannot be had.
        stream = self._open()
        self._stream.close()
        self._stream = stream

    def close(self) -> None:
        self._stream.close()


def append(path: Path, *entries: Entry) -> None:
    """Append to a journal that a daemon may be writing; OSError if that fails."""
    journal = Journal(path)
    try:
        journal.append(*entries)
    finally:
        journal.close()


@contextlib.contextmanager
def _alone(stream: BinaryIO) -> Iterator[None]:
    fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(stream, fcntl.LOCK_UN)
