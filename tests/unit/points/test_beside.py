"""Coherency points in files that are not sound."""

import argparse
import datetime
import json

import pytest

from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.errors import FileUnreadable
from tidstorage.points.beside import newest_point, point_path, read_point, write_beside
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


#: What version 6.0.0 left beside a file.
WRITTEN = """\
{
 "version": 1,
 "id": "2-20261124T183000.250000Z",
 "timeline": 2,
 "time": "2026-11-24T18:30:00.250000+00:00",
 "source": "stamps",
 "verified": true,
 "vector": {
  "a": "0x0000000000000005",
  "b": "0x0000000000000007"
 },
 "damage": [
  {
   "commit": "30313233343536373839616263646566",
   "present": {
    "a": "0x0000000000000005"
   },
   "missing": [
    "b"
   ]
  }
 ]
}
"""


def test_every_byte_is_as_it_always_was(tmp_path):
    data_file = tmp_path / "Data.fs"
    half = HalfCommit(b"0123456789abcdef", {"a": 5}, ("b",))
    time = datetime.datetime(2026, 11, 24, 18, 30, 0, 250000, tzinfo=datetime.UTC)
    point = Point({"b": 7, "a": 5}, time, "stamps", 2, True, (half,))
    write_beside(point, [data_file])
    assert point_path(data_file).read_text() == WRITTEN
    assert read_point(point_path(data_file)) == point
