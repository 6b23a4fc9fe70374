"""Coherency points in files that are not sound."""

import argparse
import json

import pytest

from tidstorage.coherence.point import Point
from tidstorage.errors import FileUnreadable
from tidstorage.points.beside import newest_point, point_path, read_point
from tidstorage.system import clock


def _text(**changes):
    return json.dumps({**Point({"a": 1}, clock.now(), "barrier").to_json(), **changes})


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", _text(version=2), _text(vector=[]), _text(damage=["x"])]
)
def test_what_is_no_point_is_named_with_what_to_do(text, tmp_path):
    data_file = tmp_path / "Data.fs"
    path = point_path(data_file)
    path.write_text(text)
    with pytest.raises(FileUnreadable, match="is not a coherency point"):
        read_point(path)
    cluster = argparse.Namespace(storages=[argparse.Namespace(data_file=data_file)])
    with pytest.raises(FileUnreadable) as caught:
        newest_point(cluster)
    assert "away" in caught.value.hint
