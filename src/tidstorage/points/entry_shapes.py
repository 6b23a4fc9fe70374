"""How the lines of a journal are read: one shape for each kind of entry.

`tidstorage.points.entries` has what they become, and how they are written.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import StrictInt, ValidationError

from tidstorage.points.entries import (
    Acknowledgement,
    Damage,
    Entry,
    Floor,
    Published,
    Stamping,
    Timeline,
    Unstamped,
    WireDamage,
    WritersSeen,
)
from tidstorage.sets.stored import (
    HalfCommitShape,
    PointShape,
    StoredCommitId,
    StoredPoint,
    StoredShape,
    StoredTid,
    StoredTime,
    StoredVector,
    Text,
)
from tidstorage.system import json_file


class _PublishedShape(PointShape):
    @property
    def entry(self) -> Entry:
        return Published(self.point)


class _DamageShape(HalfCommitShape):
    time: StoredTime
    proof: Text

    @property
    def entry(self) -> Entry:
        return Damage(self.time, self.half_commit, self.proof)


class _WireDamageShape(StoredShape):
    time: StoredTime
    transaction: Text
    storages: list[Text]
    tids: StoredVector
    reason: Text

    @property
    def entry(self) -> Entry:
        return WireDamage(
            self.time, self.transaction, tuple(self.storages), self.tids, self.reason
        )


class _AcknowledgementShape(StoredShape):
    time: StoredTime
    commit: StoredCommitId
    by: Text

    @property
    def entry(self) -> Entry:
        return Acknowledgement(self.time, self.commit, self.by)


class _FloorShape(StoredShape):
    point: StoredPoint
    reason: Text

    @property
    def entry(self) -> Entry:
        return Floor(self.point, self.reason)


class _TimelineShape(StoredShape):
    time: StoredTime
    number: StrictInt
    vector: StoredVector
    reason: Text

    @property
    def entry(self) -> Entry:
        return Timeline(self.time, self.number, self.vector, self.reason)


class _StampingShape(StoredShape):
    name: Text
    host: Text
    pid: StrictInt
    last: StoredTime


class _UnstampedShape(StoredShape):
    count: StrictInt
    tid: StoredTid
    user: Text
    description: Text


class _CoverageShape(StoredShape):
    time: StoredTime
    since: StoredTime
    stamping: list[_StampingShape]
    unstamped: dict[str, _UnstampedShape]

    @property
    def entry(self) -> Entry:
        return WritersSeen(
            self.time,
            self.since,
            tuple(
                Stamping(zope.name, zope.host, zope.pid, zope.last)
                for zope in self.stamping
            ),
            {
                storage: Unstamped(
                    written.count, written.tid, written.user, written.description
                )
                for storage, written in self.unstamped.items()
            },
        )


class _EntryShape(Protocol):
    """A shape that becomes an entry."""

    @property
    def entry(self) -> Entry: ...

    @classmethod
    def model_validate(cls, obj: Any) -> "_EntryShape": ...


_SHAPES: Mapping[str, type[_EntryShape]] = {
    "point": _PublishedShape,
    "damage": _DamageShape,
    "wire-damage": _WireDamageShape,
    "acknowledgement": _AcknowledgementShape,
    "floor": _FloorShape,
    "timeline": _TimelineShape,
    "coverage": _CoverageShape,
}


def entry_from_json(data: Any) -> Entry | None:
    """The entry of a line; None for a kind that is not known here.

    Raises: ValueError: where the entry is broken.
    """
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise ValueError("no kind of an entry")
    shape = _SHAPES.get(data["kind"])
    if shape is None:
        return None
    try:
        return shape.model_validate(data).entry
    except ValidationError as error:
        raise ValueError(json_file.first_mistake(error)) from error
