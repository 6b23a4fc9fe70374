"""Coherency points in files that are not sound."""

import argparse
import datetime
import json

import pytest

from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.errors import FileUnreadable
from tidstorage.points import journal
from tidstorage.points.beside import newest_point, point_path, read_point, write_beside
from tidstorage.points.entries import Timeline
from tidstorage.points.summary import summarise
from tidstorage.points.timelines import highest, known_timeline, timeline_beside
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


def test_what_is_asked_about_timelines(tmp_path):
    """Of the files, of the cluster, and of all numbers that a restore must not use."""
    data_file, log = tmp_path / "Data.fs", tmp_path / "journal"
    cluster = argparse.Namespace(
        storages=[argparse.Namespace(data_file=data_file)],
        daemon=argparse.Namespace(journal=log),
    )
    assert timeline_beside(cluster) == known_timeline(cluster) == 1
    assert highest([data_file], log) == 0
    write_beside(Point({"a": 1}, clock.now(), "restore", 2), [data_file])
    journal.append(log, Timeline(clock.now(), 4, {"a": 1}, "restore"))
    assert timeline_beside(cluster) == highest([data_file], None) == 2
    assert known_timeline(cluster) == highest([data_file], log) == 4
    assert known_timeline(cluster, summarise(tmp_path / "none")) == 2
    assert highest([data_file], log, [7, 3]) == 7
    log.write_text("{}\n")
    point_path(data_file).write_text("{}")
    assert highest([data_file], log, [3]) == 3
    for ask in (timeline_beside, known_timeline):
        with pytest.raises(FileUnreadable):
            ask(cluster)


def test_what_stands_before_a_broken_line_of_the_journal_counts(tmp_path):
    path = tmp_path / "journal"
    journal.append(path, Timeline(clock.now(), 5, {"a": 1}, "restore"))
    with path.open("a") as stream:
        stream.write('{"kind": "damage"}\n')
    assert highest([tmp_path / "Data.fs"], path, [2]) == 5
