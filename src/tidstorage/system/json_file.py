"""JSON files of ours are read in one way: they have the right shape, or are refused."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tidstorage.errors import FileUnreadable


class Shape(BaseModel):
    """The shape of a file: it has just these keys, with values of just these types."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


AnyShape = TypeVar("AnyShape", bound=BaseModel)


def read(
    path: Path, shape: type[AnyShape], what: str, hint: str | None = None
) -> AnyShape:
    """Read a file that has the given shape.

    what: what the file should be, in words.  hint: what to do where it is something
    else.

    Raises: FileUnreadable: where it cannot be read, or has another shape.
    """
    try:
        return shape.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        raise FileUnreadable(
            f"{path} is not {what}: {first_mistake(error)}", hint
        ) from error


def first_mistake(error: ValidationError) -> str:
    """The first thing that is wrong, and where, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = "".join(f"{key}: " for key in first["loc"])
    return f"{place}{first['msg']}"
