"""The last lines of logs, for the hint of an error."""

import os
from collections.abc import Iterable
from pathlib import Path

_LINES = 8
_READ_BYTES = 16384


def sizes(paths: Iterable[Path]) -> dict[Path, int]:
    """How long each log is now; 0 where there is none yet."""
    return {path: path.stat().st_size if path.exists() else 0 for path in paths}


def last_lines(paths: Iterable[Path], since: dict[Path, int] | None = None) -> str:
    """The last lines of each log.

    since: {log: its size then}; only what was written after it is taken.
    """
    return "\n".join(
        line for path in paths for line in _tail(path, (since or {}).get(path, 0))
    )


def _tail(path: Path, start: int) -> list[str]:
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            if end < start:  # it was rotated meanwhile
                start = 0
            stream.seek(max(start, end - _READ_BYTES))
            text = stream.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-_LINES:]
