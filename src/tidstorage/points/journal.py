"""The journal: everything about each point that the TID log has no room for.

JSON lines, one entry each, only ever appended to, each on disk before ``append``
returns.  ``kind`` names the entry; a kind that a reader does not know is
skipped, so that an older tool reads a newer journal.
"""

import contextlib
import datetime
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tidstorage.coherence import tid
from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.errors import FileUnreadable
from tidstorage.points import tid_log


@dataclass(frozen=True, slots=True)
class Published:
    """A point that was published; clean unless it names damage."""

    point: Point


@dataclass(frozen=True, slots=True)
class Damage:
    """A half commit was found; ``proof`` says in words why it is one."""

    time: datetime.datetime
    half_commit: HalfCommit
    proof: str


@dataclass(frozen=True, slots=True)
class WireDamage:
    """A wire-only transaction that may be torn: it never ended, or came too late.

    tids: {storage id: TID}, as far as known; storages: all it began with.
    """

    time: datetime.datetime
    transaction_id: str
    storages: tuple[str, ...]
    tids: tid.Vector
    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Someone accepted a half commit; it no longer keeps points from being clean."""

    time: datetime.datetime
    commit_id: bytes
    by: str


@dataclass(frozen=True, slots=True)
class Floor:
    """Nothing at or below this point is examined from now on."""

    point: Point
    reason: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """History starts anew from ``vector``, as a restore leaves it."""

    time: datetime.datetime
    number: int
    vector: tid.Vector
    reason: str


@dataclass(frozen=True, slots=True)
class Stamping:
    """A Zope that told of a stamped commit, ``last`` at that time."""

    name: str
    host: str
    pid: int
    last: datetime.datetime

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "host": self.host,
            "pid": self.pid,
            "last": self.last.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Unstamped:
    """What was written into a storage without stamps.

    tid: of the last such record.  user, description: what it said of its writer,
    as far as anybody asked.
    """

    count: int
    tid: int
    user: str = ""
    description: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "tid": tid.to_text(self.tid),
            "user": self.user,
            "description": self.description,
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """Who stamped, and what was written without stamps, since a moment.

    stamping: Zopes of the description.  unstamped: {storage id: ...}.
    """

    time: datetime.datetime
    since: datetime.datetime
    stamping: tuple[Stamping, ...]
    unstamped: Mapping[str, Unstamped]


#: How the line of a point begins.
POINT = b'{"kind": "point"'
_WIRE = b'"source": "wire"'

Entry = Published | Damage | WireDamage | Acknowledgement | Floor | Timeline | Coverage


def to_json(entry: Entry) -> dict[str, Any]:
    """The entry as its line holds it."""
    match entry:
        case Published(point):
            return {"kind": "point", **point.to_json()}
        case Damage(time, half_commit, proof):
            return {
                "kind": "damage",
                "time": time.isoformat(),
                "proof": proof,
                **half_commit.to_json(),
            }
        case WireDamage(time, transaction_id, storages, tids, reason):
            return {
                "kind": "wire-damage",
                "time": time.isoformat(),
                "transaction": transaction_id,
                "storages": sorted(storages),
                "tids": tid.vector_to_text(tids),
                "reason": reason,
            }
        case Acknowledgement(time, commit_id, by):
            return {
                "kind": "acknowledgement",
                "time": time.isoformat(),
                "commit": commit_id.hex(),
                "by": by,
            }
        case Floor(point, reason):
            return {"kind": "floor", "reason": reason, "point": point.to_json()}
        case Timeline(time, number, vector, reason):
            return {
                "kind": "timeline",
                "time": time.isoformat(),
                "number": number,
                "vector": tid.vector_to_text(vector),
                "reason": reason,
            }
        case Coverage(time, since, stamping, unstamped):
            return {
                "kind": "coverage",
                "time": time.isoformat(),
                "since": since.isoformat(),
                "stamping": [each.to_json() for each in stamping],
                "unstamped": {
                    storage: each.to_json() for storage, each in unstamped.items()
                },
            }


def _time(data: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(data["time"])


def _coverage(data: dict[str, Any]) -> Coverage:
    moment = datetime.datetime.fromisoformat
    return Coverage(
        _time(data),
        moment(data["since"]),
        tuple(
            Stamping(each["name"], each["host"], each["pid"], moment(each["last"]))
            for each in data["stamping"]
        ),
        {
            storage: Unstamped(
                each["count"],
                tid.from_text(each["tid"]),
                each["user"],
                each["description"],
            )
            for storage, each in data["unstamped"].items()
        },
    )


_READERS: dict[str, Callable[[dict[str, Any]], Entry]] = {
    "point": lambda data: Published(Point.from_json(data)),
    "damage": lambda data: Damage(
        _time(data), HalfCommit.from_json(data), data["proof"]
    ),
    "wire-damage": lambda data: WireDamage(
        _time(data),
        data["transaction"],
        tuple(data["storages"]),
        tid.vector_from_text(data["tids"]),
        data["reason"],
    ),
    "acknowledgement": lambda data: Acknowledgement(
        _time(data), bytes.fromhex(data["commit"]), data["by"]
    ),
    "floor": lambda data: Floor(Point.from_json(data["point"]), data["reason"]),
    "timeline": lambda data: Timeline(
        _time(data),
        int(data["number"]),
        tid.vector_from_text(data["vector"]),
        data["reason"],
    ),
    "coverage": _coverage,
}


def from_json(data: dict[str, Any]) -> Entry | None:
    """None for a kind that is not known here; ValueError for a broken entry."""
    reader = _READERS.get(data["kind"])
    return None if reader is None else reader(data)


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
    """The entry in a line of the journal at ``path``; FileUnreadable if broken."""
    try:
        return from_json(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
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
        data = "".join(json.dumps(to_json(each)) + "\n" for each in entries).encode()
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
