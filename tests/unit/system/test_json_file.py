"""JSON files of ours: read as they were written, or refused with a reason."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from tidstorage.errors import FileUnreadable
from tidstorage.system import json_file
from tidstorage.system.json_file import Shape


@dataclass(frozen=True, slots=True)
class Note:
    __pydantic_config__ = json_file.EXACT

    version: Literal[1] = field(default=1, kw_only=True)
    path: Path
    sizes: tuple[int, ...]


class Model(Shape):
    name: str


@pytest.mark.parametrize("content", [Note(Path("/a/é"), (1, 2)), Model(name="x")])
def test_what_is_written_is_read_again(content, tmp_path):
    path = tmp_path / "file.json"
    json_file.write(path, content)
    assert json_file.read(path, type(content), "a file of ours") == content
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"version": 2}, "version: Input should be 1"),
        ({"sizes": ["1"]}, "sizes: 0: Input should be a valid integer"),
        ({"more": 1}, "more: Unexpected"),
        ({"path": None}, "path: Input should be a valid string"),
    ],
)
def test_another_shape_is_refused_with_the_first_mistake(changes, reason, tmp_path):
    path = tmp_path / "file.json"
    data = {"version": 1, "path": "/a", "sizes": [1], **changes}
    path.write_text(json.dumps(data))
    with pytest.raises(FileUnreadable, match=f"{path} is not a note: {reason}"):
        json_file.read(path, Note, "a note", "Remove it.")


def test_a_file_name_that_is_no_utf_8_is_written(tmp_path):
    path = tmp_path / "file.json"
    json_file.write(path, Note(Path("/a/\udcff"), ()))
    assert json.loads(path.read_text())["path"] == "/a/\udcff"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileUnreadable, match=r"file\.json: No such file"):
        json_file.read(tmp_path / "file.json", Note, "a note")
