"""JSON files of ours: read as they were written, or refused with a reason."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tidstorage.errors import FileUnreadable
from tidstorage.system import json_file
from tidstorage.system.json_file import Shape, StoredPath, StoredPathText


@dataclass(frozen=True, slots=True)
class Note:
    __pydantic_config__ = json_file.EXACT

    version: Literal[1]
    path: StoredPath
    sizes: tuple[int, ...]
    name: StoredPathText = ""


class Model(Shape):
    name: str


@pytest.mark.parametrize(
    "content",
    [
        Note(1, Path("/a/é %41"), (1, 2)),
        Note(1, Path("file:/a"), ()),
        Note(1, Path("/a/\udcff é %41"), (), "/b/\udcfe"),
        Model(name="x"),
    ],
)
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
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"path": None}, "path: not a path"),
    ],
)
def test_another_shape_is_refused_with_the_first_mistake(changes, reason, tmp_path):
    path = tmp_path / "file.json"
    data = {"version": 1, "path": "/a", "sizes": [1], **changes}
    path.write_text(json.dumps(data))
    with pytest.raises(FileUnreadable, match=f"{path} is not a note: {reason}"):
        json_file.read(path, Note, "a note", "Remove it.")


def test_a_path_that_is_no_utf_8_stands_there_as_a_uri(tmp_path):
    path = tmp_path / "file.json"
    json_file.write(path, Note(1, Path("/a b/\udcff"), ()))
    assert json.loads(path.read_text())["path"] == "file:///a%20b/%FF"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileUnreadable, match=r"file\.json: No such file"):
        json_file.read(tmp_path / "file.json", Note, "a note")
