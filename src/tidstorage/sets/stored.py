"""How points, half commits, vectors and TIDs stand in JSON, in files and lines alike.

Points are written by ``to_json`` of `tidstorage.coherence.point`.  Keys that are not
known here are passed over: a later version may write more.
"""

import datetime
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictInt,
    ValidationError,
)

from tidstorage.coherence import tid
from tidstorage.coherence.loss import Loss
from tidstorage.coherence.point import HalfCommit, Point, Skew, Source
from tidstorage.system import json_file


def _text(data: Any) -> str:
    # pydantic's own str refuses what messages in another encoding left in ids.
    if not isinstance(data, str):
        raise ValueError("not a text")
    return data


def _vector(data: Any) -> dict[str, int]:
    if not isinstance(data, dict):
        raise ValueError("not a vector")
    return tid.vector_from_text(data)


def _commit_id(data: Any) -> bytes:
    return bytes.fromhex(_text(data))


def _time(data: Any) -> datetime.datetime:
    return datetime.datetime.fromisoformat(_text(data))


Text = Annotated[str, PlainValidator(_text)]
StoredTid = Annotated[int, PlainValidator(tid.from_text), PlainSerializer(tid.to_text)]
StoredVector = Annotated[
    tid.Vector, PlainValidator(_vector), PlainSerializer(tid.vector_to_text)
]
StoredCommitId = Annotated[
    bytes, PlainValidator(_commit_id), PlainSerializer(bytes.hex)
]
StoredTime = Annotated[
    datetime.datetime,
    PlainValidator(_time),
    PlainSerializer(datetime.datetime.isoformat),
]


class StoredShape(BaseModel):
    """What stands in a file or line beside what a later version may add."""

    model_config = ConfigDict(frozen=True, extra="ignore")


AnyShape = TypeVar("AnyShape", bound=StoredShape)


def _validate(shape: type[AnyShape], data: Any, what: str) -> AnyShape:
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        # In one line, which pydantic's own text is not.
        raise ValueError(f"not {what}: {json_file.first_mistake(error)}") from error


class HalfCommitShape(StoredShape):
    """A half commit as JSON has it."""

    commit: StoredCommitId
    present: StoredVector
    missing: list[Text]

    @property
    def half_commit(self) -> HalfCommit:
        return HalfCommit(self.commit, self.present, tuple(self.missing))


def _half_commit(data: Any) -> HalfCommit:
    return _validate(HalfCommitShape, data, "a half commit").half_commit


StoredHalfCommit = Annotated[
    HalfCommit, PlainValidator(_half_commit), PlainSerializer(HalfCommit.to_json)
]


class PointShape(StoredShape):
    """A coherency point as JSON has it."""

    version: Literal[1]
    timeline: StrictInt
    time: StoredTime
    source: Text
    verified: StrictBool
    vector: StoredVector
    damage: list[HalfCommitShape]
    complete_until: Annotated[StoredTime | None, Field(alias="complete-until")] = None
    skew: dict[Text, tuple[float, float]] = Field(default_factory=dict)

    @property
    def point(self) -> Point:
        return Point(
            vector=self.vector,
            time=self.time.astimezone(datetime.UTC),
            # A later version may know others, and this one only shows them.
            source=cast(Source, self.source),
            timeline=self.timeline,
            verified=self.verified,
            damage=tuple(shape.half_commit for shape in self.damage),
            complete_until=self.complete_until
            and self.complete_until.astimezone(datetime.UTC),
            skew={storage: Skew(*bounds) for storage, bounds in self.skew.items()},
        )


def point_from_json(data: Any) -> Point:
    """The point that its ``to_json`` gave.

    Raises: ValueError: where the data is not a point.
    """
    return _validate(PointShape, data, "a coherency point").point


StoredPoint = Annotated[
    Point, PlainValidator(point_from_json), PlainSerializer(Point.to_json)
]


class LossShape(StoredShape):
    """What a cut drops as JSON has it."""

    transactions: StrictInt
    since: StoredTime


def _loss(data: Any) -> Loss:
    shape = _validate(LossShape, data, "what a cut drops")
    return Loss(shape.transactions, shape.since)


StoredLoss = Annotated[Loss, PlainValidator(_loss), PlainSerializer(Loss.to_json)]
