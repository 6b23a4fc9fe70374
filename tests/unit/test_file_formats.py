"""Files that one version writes and the next one reads: the texts of version 6.0.0.

An interrupted restore, cut or pack may be gone on with after an upgrade.
"""

import datetime
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

from tidstorage.coherence.point import HalfCommit, Point, Skew
from tidstorage.engines.filestorage import DataFile, truncation
from tidstorage.operation import lock, pack_note
from tidstorage.points import beside
from tidstorage.system import clock
from tidstorage.verbs.restore import cut_plan, swap

TIME = datetime.datetime(2026, 11, 24, 18, 30, 0, 250000, tzinfo=datetime.UTC)
HALF = HalfCommit(b"0123456789abcdef", {"a": 5}, ("b",))
POINT = Point({"a": 5, "b": 7}, TIME, "stamps", 2, True, (HALF,))
POINT_TEXT = {
    "version": 1,
    "id": "2-20261124T183000.250000Z",
    "timeline": 2,
    "time": "2026-11-24T18:30:00.250000+00:00",
    "source": "stamps",
    "verified": True,
    "vector": {"a": "0x0000000000000005", "b": "0x0000000000000007"},
    "damage": [
        {
            "commit": "30313233343536373839616263646566",
            "present": {"a": "0x0000000000000005"},
            "missing": ["b"],
        }
    ],
}


def text(data):
    """As files have it: one key a line, in the order in which they are written."""
    return json.dumps(data, indent=1) + "\n"


def test_the_point_beside_a_file(tmp_path):
    data_file = tmp_path / "Data.fs"
    beside.write_beside(POINT, [data_file])
    path = tmp_path / "Data.fs.point"
    assert path.read_text() == text(POINT_TEXT)
    assert beside.read_point(path) == POINT


def test_a_point_with_its_interval_and_the_clocks_of_servers(tmp_path):
    """What former versions did not write stands before the damage."""
    since = TIME - datetime.timedelta(seconds=2)
    skew = {"b": Skew(-6.001, -6.0), "a": Skew(-0.25, 0.5)}
    point = Point({"a": 5}, TIME, "barrier", complete_until=since, skew=skew)
    (line,) = [json.dumps(point.to_json())]
    assert line.endswith(
        '"vector": {"a": "0x0000000000000005"},'
        ' "complete-until": "2026-11-24T18:29:58.250000+00:00",'
        ' "skew": {"a": [-0.25, 0.5], "b": [-6.001, -6.0]}, "damage": []}'
    )
    data_file = tmp_path / "Data.fs"
    beside.write_beside(point, [data_file])
    assert beside.read_point(tmp_path / "Data.fs.point") == point
    assert (point.complete, POINT.complete) == (since, TIME)
    assert point.doubt == 6.0 and POINT.doubt == 0


def test_the_journal_of_a_swap(tmp_path):
    path = tmp_path / "swap.json"
    written = swap.Swap(
        1,
        "20261124T220000Z",
        [
            swap.Action("keep", "/srv/é/Data.fs", "/srv/é/Data.fs.before-restore-1"),
            swap.Action("cut", "/srv/b.fs", "/srv/b.dropped", "0x0000000000000005"),
        ],
        POINT,
        [Path("/srv/é/Data.fs")],
    )
    swap.write(written, path)
    assert path.read_text() == text(
        {
            "version": 1,
            "set": "20261124T220000Z",
            "actions": [
                {
                    "kind": "keep",
                    "path": "/srv/é/Data.fs",
                    "other": "/srv/é/Data.fs.before-restore-1",
                    "last": "",
                },
                {
                    "kind": "cut",
                    "path": "/srv/b.fs",
                    "other": "/srv/b.dropped",
                    "last": "0x0000000000000005",
                },
            ],
            "point": POINT_TEXT,
            "data_files": ["/srv/é/Data.fs"],
        }
    )
    assert swap.read(path) == written


def test_the_plan_of_a_cut(tmp_path):
    data_file = tmp_path / "a.fs"
    data_file.write_bytes(bytes(200))
    dropped, blobs = tmp_path / "a.dropped", tmp_path / "blobs"
    plan = cut_plan.Plan(
        1,
        [cut_plan.Step("a", data_file, 5, 100, 200, dropped, blobs)],
        {"a": 1},
        frozenset({b"b" * 16, b"a" * 16}),
        POINT,
        [tmp_path / "cache"],
    )
    cut_plan.write(plan)
    assert (tmp_path / "a.fs.cut-plan").read_text() == text(
        {
            "version": 1,
            "steps": [
                {
                    "storage": "a",
                    "path": str(data_file),
                    "last": "0x0000000000000005",
                    "position": 100,
                    "size": 200,
                    "dropped": str(dropped),
                    "blob_directory": str(blobs),
                }
            ],
            "floor": {"a": "0x0000000000000001"},
            "accepted": ["61" * 16, "62" * 16],
            "point": POINT_TEXT,
            "remove": [str(tmp_path / "cache")],
        }
    )
    assert cut_plan.interrupted([data_file]) == plan


def test_the_note_of_a_pack(tmp_path, monkeypatch):
    cluster = SimpleNamespace(daemon=SimpleNamespace(tid_log=tmp_path / "tid"))
    monkeypatch.setattr(clock, "now", lambda: TIME)
    pack_note.write_note(cluster, {"a": 5})
    assert (tmp_path / "pack.json").read_text() == text(
        {
            "version": 1,
            "begun": "2026-11-24T18:30:00.250000+00:00",
            "below": {"a": "0x0000000000000005"},
        }
    )
    assert pack_note.read_note(cluster) == pack_note.Note(1, TIME, {"a": 5})


def test_the_description_of_dropped_bytes(tmp_path):
    data_file = tmp_path / "Data.fs"
    data_file.write_bytes(b"FS21dropped")
    with DataFile(data_file) as opened:
        for _ in range(2):
            # The second time it is found to be the same.
            truncation.save_dropped(opened, tmp_path / "kept", 4, 11, 5)
    assert (tmp_path / "kept.json").read_text() == text(
        {
            "version": 1,
            "file": str(data_file),
            "last": "0x0000000000000005",
            "position": 4,
            "size": 11,
            "sha256": hashlib.sha256(b"dropped").hexdigest(),
            "restore": "append the bytes to the file when it is as long as position",
        }
    )


def test_the_owner_of_a_lock_as_earlier_versions_wrote_it(tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: TIME + datetime.timedelta(seconds=75))
    path = tmp_path / "operation.lock"
    path.write_text(
        '{"verb": "backup", "pid": 7, "host": "here",'
        ' "since": "2026-11-24T18:30:00+00:00"}\n'
    )
    described = lock._describe_owner(path)
    assert described.startswith("backup (process 7 on here) has been running for 1 min")
