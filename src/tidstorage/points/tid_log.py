"""The TID log: every usable vector the daemon published, in the original's format.

A line is ``<time> f {…}``, the full vector, or ``<time> d {…}``, what changed
since the line before; time is in seconds since the epoch with two decimals, the
braces are a Python dict literal of storage id to TID.  A difference means
something only after an unbroken row of lines from a full one.
"""

import ast
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tidstorage.coherence.tid import Vector
from tidstorage.errors import FileUnreadable, Locked
from tidstorage.system import durable

_LINE = re.compile(r"(\d+(?:\.\d+)?) ([fd]) (\{.*\})")
# Python 2 wrote large integers with an L behind; strings have to stay as they are.
_STRING_OR_LONG = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(\d+)L\b""")
_FIRST_WINDOW = 1 << 16


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a TID log.

    time: seconds since the epoch.  full: whether it has the full vector, not just what
    changed.  tids: {storage id: TID}.
    """

    time: float
    full: bool
    tids: Vector


@dataclass(frozen=True, slots=True)
class LoggedVector:
    """The whole vector as it was published at a time.

    time: seconds since the epoch.  vector: {storage id: TID}.
    """

    time: float
    vector: Vector


def format_line(entry: LogLine) -> str:
    """The line, with its line feed."""
    kind = "f" if entry.full else "d"
    return f"{entry.time:.2f} {kind} {dict(sorted(entry.tids.items()))!r}\n"


def parse_line(line: str) -> LogLine:
    """What a line says.

    Raises: ValueError: where it is not a line of a TID log.
    """
    match = _LINE.fullmatch(line.strip())
    if match is None:
        raise ValueError(f"not a line of a TID log: {line[:80]!r}")
    time, kind, literal = match.groups()
    return LogLine(float(time), kind == "f", _tids(literal))


def _tids(literal: str) -> dict[str, int]:
    literal = _STRING_OR_LONG.sub(lambda match: match[1] or match[2], literal)
    try:
        tids = ast.literal_eval(literal)
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a dict literal: {literal[:80]!r}") from error
    if not all(isinstance(key, str) for key in tids) or not all(
        type(value) is int and value >= 0 for value in tids.values()
    ):
        raise ValueError(f"not a dict of storage ids and TIDs: {literal[:80]!r}")
    return dict(tids)


@dataclass(slots=True)
class Replay:
    """Follows a log line by line; ``vector`` is the newest that is whole.

    ``synchronised`` is false from a line that was lost until the next full one.
    """

    vector: dict[str, int] = field(default_factory=dict)
    synchronised: bool = False

    def apply(self, entry: LogLine | None) -> bool:
        """Take the next line (None: one that is no line); did it count?"""
        if entry is None:
            self.synchronised = False
        elif entry.full:
            self.vector = dict(entry.tids)
            self.synchronised = True
        elif self.synchronised:
            self.vector.update(entry.tids)
        return self.synchronised


def parse_lines(lines: Iterable[bytes]) -> Iterator[LogLine | None]:
    """What each line says; None for one that is not a line of a TID log.

    A broken line is what a crash leaves, at the end or, where a former daemon
    went on behind it, in the middle.
    """
    for line in lines:
        try:
            text = line.decode()
            if text.strip():
                yield parse_line(text)
        except ValueError:
            yield None


def replay_lines(lines: Iterable[bytes]) -> Iterator[LoggedVector]:
    """The whole vectors in a log, oldest first."""
    replay = Replay()
    for entry in parse_lines(lines):
        if replay.apply(entry) and entry is not None:
            yield LoggedVector(entry.time, dict(replay.vector))


def read_all(path: Path) -> Iterator[LoggedVector]:
    """The whole vectors in a log, oldest first.

    Raises: FileUnreadable: where there is no file.
    """
    with _open(path) as stream:
        yield from replay_lines(stream)


def read_last(path: Path) -> dict[str, int]:
    """The last whole vector; empty where there is none.

    Raises: FileUnreadable: where there is no file.
    """
    return dict(read_last_state(path).vector)


def read_last_state(path: Path) -> LoggedVector:
    """The last whole vector, and when it was published; empty where there is none.

    Reads from the end, since logs grow for years.

    Raises: FileUnreadable: where there is no file.
    """
    replay = Replay()
    state = LoggedVector(0.0, {})
    with _open(path) as stream:
        for entry in _last_entries(stream):
            if replay.apply(entry) and entry is not None:
                state = LoggedVector(entry.time, replay.vector)
    return state


def _last_entries(stream: BinaryIO) -> list[LogLine | None]:
    """The lines from the last full one on, or more; all where none is full."""
    size = stream.seek(0, os.SEEK_END)
    window = _FIRST_WINDOW
    while True:
        start = max(size - window, 0)
        stream.seek(start)
        lines = stream.read(size - start).splitlines()
        parsed = list(parse_lines(lines[1:] if start else lines))
        if start == 0 or any(line is not None and line.full for line in parsed):
            return parsed
        window *= 4


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error


class Writer:
    """Appends vectors to a log, each on disk before ``write`` returns.

    Opening cuts off a torn last line.  The first line written after opening is a
    full one.  At most one line is written per ``burst_period``; full lines are
    at most ``full_dump_period`` apart, as long as something changes (both in
    seconds).

    Raises:
      OSError: where the file cannot be written
      Locked: where another writer has it
    """

    def __init__(
        self, path: Path, full_dump_period: float = 300, burst_period: float = 0
    ) -> None:
        self.path = path
        self._full_dump_period = full_dump_period
        self._burst_period = burst_period
        self._written: dict[str, int] = {}
        self._full_time: float | None = None
        self._stream = self._open()
        self._written_time = max(
            (entry.time for entry in _last_entries(self._stream) if entry is not None),
            default=0.0,
        )

    def _open(self) -> BinaryIO:
        stream = self.path.open("ab+", buffering=0)
        try:
            # Lines of two daemons in one log would be nobody's vectors.
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            durable.cut_torn_line(stream)
        except BlockingIOError:
            stream.close()
            raise Locked(
                f"{self.path}: another daemon writes this TID log",
                "Stop it first, or give this one another status file.",
            ) from None
        except OSError:
            stream.close()
            raise
        return stream

    def due(self, now: float) -> float:
        """Seconds until the next line may be written; 0 when it may be now."""
        waited = now - self._written_time
        # A clock that was set back must not stop the log.
        return max(0.0, self._burst_period - waited) if waited >= 0 else 0.0

    def write(self, vector: Vector, now: float) -> bool:
        """Write a line if ``vector`` differs from the last one, and flush it.

        ``now`` in seconds since the epoch.  Lines never go back in time: while a
        clock that was set back catches up, they have the time of the last one.
        """
        now = max(now, self._written_time)
        full = (
            self._full_time is None
            or not 0 <= now - self._full_time < self._full_dump_period
        )
        changed = {
            storage: tid
            for storage, tid in vector.items()
            if self._written.get(storage) != tid
        }
        if not changed:
            return False
        self._append(LogLine(now, full, vector if full else changed))
        if full:
            self._full_time = now
        self._written = dict(vector)
        self._written_time = now
        return True

    def _append(self, entry: LogLine) -> None:
        end = self._stream.seek(0, os.SEEK_END)
        line = format_line(entry).encode()
        try:
            if self._stream.write(line) != len(line):
                raise OSError(f"{self.path}: no room for a whole line")
            os.fsync(self._stream.fileno())
        except OSError:
            # The next line has to start at the start of a line, and in full.
            self._full_time = None
            os.ftruncate(self._stream.fileno(), end)
            raise

    def reopen(self, vector: Vector, now: float) -> None:
        """Go on in the file that is at the path now, with a full line."""
        if not self._is_at_path():
            stream = self._open()
            self._stream.close()
            self._stream = stream
        self._written = {}
        self._full_time = None
        if vector:
            self.write(vector, now)

    def _is_at_path(self) -> bool:
        try:
            ours = os.fstat(self._stream.fileno())
            return os.path.samestat(ours, self.path.stat())
        except FileNotFoundError:
            return False

    def set_aside(self, suffix: str) -> None:
        """Go on in a new file; the old one is beside it, under another name."""
        if self.path.exists():
            self.path.rename(self.path.with_name(f"{self.path.name}.{suffix}"))
        self.reopen({}, 0)

    def close(self) -> None:
        self._stream.close()
