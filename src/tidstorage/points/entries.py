"""What the journal holds: one class for each kind of entry.

The annotations of a class say how its line is written and read.  Keys that are not
known here are passed over, since a later version may write more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import Field, PlainSerializer, StrictInt, TypeAdapter, ValidationError

from tidstorage.sets.stored import (
    StoredCommitId,
    StoredHalfCommit,
    StoredPoint,
    StoredTid,
    StoredTime,
    StoredVector,
    Text,
)
from tidstorage.system import json_file


@dataclass(frozen=True, slots=True)
class Published:
    """A point that was published; clean unless it names damage."""

    point: StoredPoint


@dataclass(frozen=True, slots=True)
class Damage:
    """A half commit was found; ``proof`` says in words why it is one."""

    time: StoredTime
    half_commit: StoredHalfCommit
    proof: Text


@dataclass(frozen=True, slots=True)
class WireDamage:
    """A wire-only transaction that may be torn: it never ended, or came too late.

    tids: {storage id: TID}, as far as known; storages: all it began with.
    """

    time: StoredTime
    transaction_id: Annotated[Text, Field(alias="transaction")]
    storages: Annotated[tuple[Text, ...], PlainSerializer(sorted)]
    tids: StoredVector
    reason: Text


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Someone accepted a half commit; it no longer keeps points from being clean."""

    time: StoredTime
    commit_id: Annotated[StoredCommitId, Field(alias="commit")]
    by: Text


@dataclass(frozen=True, slots=True)
class Struck:
    """A half commit proved to be none; ``reason`` says in words what showed it.

    What the journal says of it before this counts no more: it is whole.
    """

    time: StoredTime
    commit_id: Annotated[StoredCommitId, Field(alias="commit")]
    reason: Text


@dataclass(frozen=True, slots=True)
class Floor:
    """Nothing at or below this point is examined from now on."""

    reason: Text
    point: StoredPoint


@dataclass(frozen=True, slots=True)
class Timeline:
    """History starts anew from ``vector``, as a restore leaves it."""

    time: StoredTime
    number: StrictInt
    vector: StoredVector
    reason: Text


@dataclass(frozen=True, slots=True)
class Stamping:
    """A Zope that told of a stamped commit, ``last`` at that time."""

    name: Text
    host: Text
    pid: StrictInt
    last: StoredTime


@dataclass(frozen=True, slots=True)
class Unstamped:
    """What was written into a storage without stamps.

    tid: of the last such record.  user, description: what it said of its writer,
    as far as anybody asked.
    """

    count: StrictInt
    tid: StoredTid
    user: Text = ""
    description: Text = ""


@dataclass(frozen=True, slots=True)
class WritersSeen:
    """Who stamped, and what was written without stamps, since a moment.

    stamping: Zopes of the description.  unstamped: {storage id: ...}.
    """

    time: StoredTime
    since: StoredTime
    stamping: tuple[Stamping, ...]
    unstamped: Mapping[str, Unstamped]


Entry = (
    Published
    | Damage
    | WireDamage
    | Acknowledgement
    | Struck
    | Floor
    | Timeline
    | WritersSeen
)

#: What ``kind`` is in the line of an entry.
_KINDS: Mapping[type[Any], str] = {
    Published: "point",
    Damage: "damage",
    WireDamage: "wire-damage",
    Acknowledgement: "acknowledgement",
    Struck: "struck",
    Floor: "floor",
    Timeline: "timeline",
    WritersSeen: "coverage",
}
_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {
    kind: TypeAdapter(entry) for entry, kind in _KINDS.items()
}
#: The attribute whose own keys stand in the line in its place.
_SPREAD = {"point": "point", "damage": "half_commit"}


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """The entry as its line holds it."""
    kind = _KINDS[type(entry)]
    data = _ADAPTERS[kind].dump_python(entry, mode="json", by_alias=True)
    if kind in _SPREAD:
        data |= data.pop(_SPREAD[kind])
    return {"kind": kind, **data}


def entry_from_json(data: Any) -> Entry | None:
    """The entry of a line; None for a kind that is not known here.

    Raises: ValueError: where the entry is broken.
    """
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise ValueError("no kind of an entry")
    kind = data["kind"]
    if kind not in _ADAPTERS:
        return None
    if kind in _SPREAD:
        data = {**data, _SPREAD[kind]: data}
    try:
        return cast(Entry, _ADAPTERS[kind].validate_python(data))
    except ValidationError as error:
        raise ValueError(json_file.first_mistake(error)) from error
