"""JSON files of ours: a type says how each is written, and what is refused.

The type is a pydantic model, or a dataclass whose annotations pydantic understands.
What does not have its shape is never believed.
"""

import json
import os
import urllib.parse
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)

from tidstorage.errors import FileUnreadable
from tidstorage.system import durable

#: A file has just the keys of its type, with values of just these types.  Goes to
#: a dataclass as ``__pydantic_config__``; `Shape` has it.
EXACT = ConfigDict(strict=True, extra="forbid")


class Shape(BaseModel):
    """The shape of a file: it has just these keys, with values of just these types."""

    model_config = ConfigDict(**EXACT, frozen=True)


Content = TypeVar("Content")

_URI = "file://"


def _name_from_json(data: Any) -> str:
    if not isinstance(data, str):
        raise ValueError("not a path")
    if data.startswith(_URI):
        return os.fsdecode(urllib.parse.unquote_to_bytes(data.removeprefix(_URI)))
    return data


def _path_from_json(data: Any) -> Path:
    return Path(_name_from_json(data))


def _name_to_json(path: Path | str) -> str:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        # A name from another encoding, which JSON cannot hold.
        return Path(path).absolute().as_uri()
    return str(path)


#: The path of a file; where it is no UTF-8, as a file URI.
StoredPath = Annotated[
    Path, PlainValidator(_path_from_json), PlainSerializer(_name_to_json)
]
#: The same as a text, which may be empty.
StoredPathText = Annotated[
    str, PlainValidator(_name_from_json), PlainSerializer(_name_to_json)
]


def read(
    path: Path, shape: type[Content], what: str, hint: str | None = None
) -> Content:
    """Read a file that has the given shape.

    what: what the file should be, in words.  hint: what to do where it is something
    else.

    Raises: FileUnreadable: where it cannot be read, or has another shape.
    """
    try:
        return TypeAdapter(shape).validate_json(path.read_bytes())
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        raise FileUnreadable(
            f"{path} is not {what}: {first_mistake(error)}", hint
        ) from error


def write(path: Path, content: Any) -> None:
    """Put the file that holds the content in place of the former one, durably.

    Raises: OSError: where it cannot be written; then the former file stays.
    """
    durable.replace_text(path, to_text(content))


def to_text(content: Any, indent: int | None = 1) -> str:
    """What a file holds that has the content; on one line where indent is None."""
    return json.dumps(to_json(content), indent=indent) + "\n"


def to_json(content: Any) -> Any:
    """The content as dicts, lists, texts and numbers."""
    adapter: TypeAdapter[Any] = TypeAdapter(type(content))
    return adapter.dump_python(content, mode="json", by_alias=True)


def first_mistake(error: ValidationError) -> str:
    """The first thing that is wrong, and where, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = "".join(f"{key}: " for key in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        # Of a dataclass; of a model pydantic says it like this.
        return f"{place}Extra inputs are not permitted"
    return place + first["msg"].removeprefix("Value error, ")
