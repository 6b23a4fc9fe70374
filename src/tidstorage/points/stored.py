"""Points, vectors and TIDs as fields of our JSON files."""

from typing import Annotated, Any

from pydantic import BeforeValidator, InstanceOf

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point


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
