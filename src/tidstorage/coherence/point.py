"""A coherency point: a coherent cut that was written down, as JSON.

The newest point of a cluster lies beside each of its files as
``<Data.fs>.point``, so that files can be cut above it without any daemon.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tidstorage.coherence import tid

FORMAT_VERSION = 1
#: Seconds by which clocks may differ before anybody is told.
TOLERATED = 0.5
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
class Skew:
    """A server's clock minus ours, in seconds: between ``least`` and ``most``."""

    least: float
    most: float

    @property
    def is_notable(self) -> bool:
        """Whether the clocks differ by more than anybody tolerates, for sure."""
        return self.least > TOLERATED or self.most < -TOLERATED


@dataclass(frozen=True, slots=True)
class Point:
    """K: vector is {storage id: last TID kept}; times are aware, in UTC.

    A point is an interval.  Nothing that is in it was committed after ``time``, and
    all that was acknowledged up to ``complete_until`` is in it; a barrier is an
    instant, at which both are true.  Both by the clock of whoever took the point.

    damage: the half commits inside it that nobody has acknowledged.
    complete_until: None where that is not known, as of points of former versions.
    skew: {storage id: of its server's clock}, as far as it was measured then.
    """

    vector: tid.Vector
    time: datetime.datetime
    source: Source
    timeline: int = 1
    verified: bool = True
    damage: Sequence[HalfCommit] = field(default=())
    complete_until: datetime.datetime | None = None
    skew: Mapping[str, Skew] = field(default_factory=dict)

    @property
    def complete(self) -> datetime.datetime:
        """Up to when it has all that was acknowledged; its time, where nobody knows."""
        return self.complete_until or self.time

    @property
    def doubt(self) -> float:
        """Seconds by which clocks make it uncertain of which moment it is.

        How wide it is, or by how much servers' clocks differed from that of whoever
        took it.
        """
        width = (self.time - self.complete).total_seconds()
        differences = (
            min(abs(skew.least), abs(skew.most))
            for skew in self.skew.values()
            if skew.is_notable
        )
        return max([width, *differences])

    @property
    def id(self) -> str:
        """``<timeline>-<UTC time to the microsecond>``, unique in a cluster."""
        return f"{self.timeline}-{self.time:%Y%m%dT%H%M%S.%fZ}"

    def to_json(self) -> dict[str, Any]:
        known: dict[str, Any] = {}
        if self.complete_until is not None:
            known["complete-until"] = self.complete_until.isoformat()
        if self.skew:
            known["skew"] = {
                storage: [self.skew[storage].least, self.skew[storage].most]
                for storage in sorted(self.skew)
            }
        return {
            "version": FORMAT_VERSION,
            "id": self.id,
            "timeline": self.timeline,
            "time": self.time.isoformat(),
            "source": self.source,
            "verified": self.verified,
            "vector": tid.vector_to_text(self.vector),
            # `points.published` knows a line by its begin and its end.
            **known,
            "damage": [half.to_json() for half in self.damage],
        }

    def follows(self, other: "Point") -> bool:
        """Whether it is the later one, whatever their times say.

        Of a later timeline, or with more in it and nothing less; a clock may have been
        set back between the two.  Of two that each have more the time decides.
        """
        if self.timeline != other.timeline:
            return self.timeline > other.timeline
        storages = self.vector.keys() | other.vector.keys()
        pairs = [
            (self.vector.get(storage, 0), other.vector.get(storage, 0))
            for storage in storages
        ]
        has_more = any(ours > theirs for ours, theirs in pairs)
        has_less = any(ours < theirs for ours, theirs in pairs)
        return self.time > other.time if has_more == has_less else has_more
