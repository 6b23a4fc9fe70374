"""A coherency point: a coherent cut that was written down, as JSON.

The newest point of a cluster lies beside each of its files as
``<Data.fs>.point``, so that files can be cut above it without any daemon.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tidstorage.coherence import tid

FORMAT_VERSION = 1
Source = Literal["barrier", "stamps", "wire", "restore"]


@dataclass(frozen=True, slots=True)
class HalfCommit:
    """A transaction that some storages hold and others provably never will.

    commit_id: 16 bytes.  present: {storage id: TID as int} of its records.
    missing: ids of the storages without one.
    """

    commit_id: bytes
    present: tid.Vector
    missing: tuple[str, ...]

    def in_words(self) -> str:
        """``<commit id>: in <storages>; never in <storages>``, for messages."""
        return (
            f"{self.commit_id.hex()}: in {', '.join(sorted(self.present))};"
            f" never in {', '.join(sorted(self.missing))}"
        )

    def to_json(self) -> dict[str, Any]:
        """The form of `tidstorage-cut --json`, journal and manifest."""
        return {
            "commit": self.commit_id.hex(),
            "present": tid.vector_to_text(self.present),
            "missing": sorted(self.missing),
        }


@dataclass(frozen=True, slots=True)
class UnknownOutcome:
    """A transaction of which nobody can tell whether it is whole.

    commit_id: 16 bytes.  present: {storage id: TID as int} of its records.
    unseen: ids of the storages that lack its record, where a pack may have taken it.
    """

    commit_id: bytes
    present: tid.Vector
    unseen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """K: vector is {storage id: last TID kept}; time is aware, in UTC.

    damage: the half commits inside it that nobody has acknowledged.
    """

    vector: tid.Vector
    time: datetime.datetime
    source: Source
    timeline: int = 1
    verified: bool = True
    damage: Sequence[HalfCommit] = field(default=())

    @property
    def id(self) -> str:
        """``<timeline>-<UTC time to the microsecond>``, unique in a cluster."""
        return f"{self.timeline}-{self.time:%Y%m%dT%H%M%S.%fZ}"

    def to_json(self) -> dict[str, Any]:
        return {
            "version": FORMAT_VERSION,
            "id": self.id,
            "timeline": self.timeline,
            "time": self.time.isoformat(),
            "source": self.source,
            "verified": self.verified,
            "vector": tid.vector_to_text(self.vector),
            "damage": [half.to_json() for half in self.damage],
        }
