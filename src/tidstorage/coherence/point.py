"""A coherency point: a coherent cut that was written down, as JSON.

The newest point of a cluster lies beside each of its files as
``<Data.fs>.point``, so that files can be cut above it without any daemon.
"""

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tidstorage.coherence import tid
from tidstorage.errors import FileUnreadable
from tidstorage.system import durable

FORMAT_VERSION = 1
SUFFIX = ".point"
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

    def to_json(self) -> dict[str, Any]:
        """The form of `tidstorage-cut --json`, journal and manifest."""
        return {
            "commit": self.commit_id.hex(),
            "present": tid.vector_to_text(self.present),
            "missing": sorted(self.missing),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "HalfCommit":
        return cls(
            bytes.fromhex(data["commit"]),
            tid.vector_from_text(data["present"]),
            tuple(data["missing"]),
        )


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

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Point":
        """ValueError or KeyError where the data is not a point."""
        if data["version"] != FORMAT_VERSION:
            raise ValueError(f"point version {data['version']} is not known here")
        time = datetime.datetime.fromisoformat(data["time"])
        return cls(
            vector=tid.vector_from_text(data["vector"]),
            time=time.astimezone(datetime.UTC),
            source=data["source"],
            timeline=int(data["timeline"]),
            verified=bool(data["verified"]),
            damage=tuple(HalfCommit.from_json(half) for half in data["damage"]),
        )


def now() -> datetime.datetime:
    """The present moment, aware, in UTC."""
    return datetime.datetime.now(datetime.UTC)


def read(path: Path) -> Point:
    """The point in a file; FileUnreadable where there is none."""
    try:
        return Point.from_json(json.loads(path.read_text()))
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileUnreadable(f"{path} is not a coherency point: {error}") from error


def beside(data_file: Path) -> Path:
    """Where the point of a Data.fs is kept."""
    return data_file.with_name(data_file.name + SUFFIX)


def write_beside(point: Point, data_files: Iterable[Path]) -> None:
    """Keep the point beside each file, durably; OSError where that fails.

    First where there is none: were that interrupted after the others, a new point
    would name a storage that was just added, and the storage have none.
    """
    text = json.dumps(point.to_json(), indent=1) + "\n"
    for data_file in sorted(data_files, key=lambda each: beside(each).exists()):
        durable.replace_text(beside(data_file), text)
