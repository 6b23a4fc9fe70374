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
from tidstorage.points.entries import Entry, entry_from_json, entry_to_json
from tidstorage.system import durable

#: How the line of a point begins.
POINT = b'{"kind": "point"'
_WIRE = b'"source": "wire"'


def read_but_old_points(path: Path) -> Iterator[Entry]:
    """The entries, oldest first; of points one after the other only the last.

    Points of wire-only ids are left out.  Nothing where there is no journal yet.

    Raises: FileUnreadable: where the journal is broken.
    """
    # There may be millions of points: their lines are looked at, and few are parsed.
    newest = b""
    for line in read_whole_lines(path):
        if line.startswith(POINT):
            if _WIRE not in line:
                newest = line
            continue
        for kept in (newest, line) if newest else (line,):
            entry = parse_line(path, kept)
            if entry is not None:
                yield entry
        newest = b""
    entry = parse_line(path, newest) if newest else None
    if entry is not None:
        yield entry


def read_whole_lines(path: Path) -> Iterator[bytes]:
    """The lines as they are, but for a torn last one; none without a journal.

    Raises: FileUnreadable: where the journal cannot be read.
    """
    if not path.exists():
        return
    try:
        with path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield line
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error


def parse_line(path: Path, line: bytes) -> Entry | None:
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
    """Appends entries to a journal; opening cuts off a torn last line.

    Others append while the daemon does: what one has half written, another must
    neither take for torn nor cut off.  So each holds a lock on the file meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = self._open()

    def _open(self) -> BinaryIO:
        stream = self.path.open("ab+", buffering=0)
        try:
            with _locked(stream):
                durable.cut_torn_line(stream)
        except OSError:
            stream.close()
            raise
        return stream

    def append(self, *entries: Entry) -> None:
        """Write the entries, all or none, and flush them.

        Raises: OSError: where that fails; then nothing was written.
        """
        lines = [json.dumps(entry_to_json(entry)) + "\n" for entry in entries]
        data = "".join(lines).encode()
        with _locked(self._stream):
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
    """Append entries to a journal that a daemon may be writing.

    Raises: OSError: where that fails; then nothing was written.
    """
    journal = Journal(path)
    try:
        journal.append(*entries)
    finally:
        journal.close()


@contextlib.contextmanager
def _locked(stream: BinaryIO) -> Iterator[None]:
    fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(stream, fcntl.LOCK_UN)
