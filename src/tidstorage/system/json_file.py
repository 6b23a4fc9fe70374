"""JSON files of ours, read back: in the right shape, or FileUnreadable."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf, ValidationError

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.errors import FileUnreadable


class Shape(BaseModel):
    """What a file holds: just these keys, with values of just these types."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _point(data: Any) -> Point:
    try:
        return Point.from_json(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a coherency point: {error}") from error


def _vector(data: Any) -> dict[str, int]:
    if not isinstance(data, dict):
        raise ValueError("not a vector")
    return tid.vector_from_text(data)


StoredPoint = Annotated[InstanceOf[Point], BeforeValidator(_point)]


def _commit_id(data: Any) -> bytes:
    if not isinstance(data, str):
        raise ValueError("not a commit id")
    return bytes.fromhex(data)


StoredCommitId = Annotated[bytes, BeforeValidator(_commit_id)]
StoredTid = Annotated[int, BeforeValidator(tid.from_text)]
StoredVector = Annotated[dict[str, int], BeforeValidator(_vector)]
AnyShape = TypeVar("AnyShape", bound=Shape)


def read(path: Path, shape: type[AnyShape], what: str, hint: str) -> AnyShape:
    """What the file holds.

    what: what the file should be, for the text of FileUnreadable; hint: what to
    do where it is something else.
    """
    try:
        return shape.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{each}: " for each in first["loc"])
        raise FileUnreadable(
            f"{path} is not {what}: {place}{first['msg']}", hint
        ) from (error)
