"""What the journal holds: one class for each kind of entry, and how it is written.

`tidstorage.points.entry_shapes` reads them.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidstorage.coherence import tid
from tidstorage.coherence.point import HalfCommit, Point


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
class WritersSeen:
    """Who stamped, and what was written without stamps, since a moment.

    stamping: Zopes of the description.  unstamped: {storage id: ...}.
    """

    time: datetime.datetime
    since: datetime.datetime
    stamping: tuple[Stamping, ...]
    unstamped: Mapping[str, Unstamped]


Entry = (
    Published | Damage | WireDamage | Acknowledgement | Floor | Timeline | WritersSeen
)


def entry_to_json(entry: Entry) -> dict[str, Any]:
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
        case WritersSeen(time, since, stamping, unstamped):
            return {
                "kind": "coverage",
                "time": time.isoformat(),
                "since": since.isoformat(),
                "stamping": [zope.to_json() for zope in stamping],
                "unstamped": {
                    storage: written.to_json() for storage, written in unstamped.items()
                },
            }
