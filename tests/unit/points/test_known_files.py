"""What is noted of each Data.fs, and what is concluded from it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from data_files import Writer

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.engines.filestorage import DataFile, last_tid
from tidstorage.points import known_files
from tidstorage.points.beside import write_beside
from tidstorage.system import clock


@pytest.fixture
def site(tmp_path: Path) -> Any:
    """A cluster of one storage, and who writes it."""
    path = tmp_path / "Data.fs"
    writer = Writer(path)
    for _ in range(4):
        writer.commit()
    storage = SimpleNamespace(id="a", aliases=(), data_file=path, blob_directory=None)
    cluster = SimpleNamespace(
        storages=[storage],
        daemon=SimpleNamespace(tid_log=tmp_path / "tidstorage/tid.log"),
    )
    # That it is there says that the file is this storage's.
    path.with_name("Data.fs.history").touch()
    known_files.note(cluster)
    yield SimpleNamespace(cluster=cluster, path=path, writer=writer)
    writer.close()


def found(site: Any) -> known_files.Finding:
    record = known_files.record_path(site.cluster)
    (finding,) = known_files.examine(record, site.cluster.storages)
    return finding


def test_what_is_noted(site: Any) -> None:
    with DataFile(site.path) as opened:
        first, *_, last = opened.forward()
    text = known_files.record_path(site.cluster).read_text()
    assert json.loads(text) == {
        "version": 1,
        "storages": {
            "a": {
                "path": str(site.path),
                "first_tids": [tid.to_text(first.tid)],
                "last": tid.to_text(last.tid),
                "end": last.end,
                "timeline": 1,
                "has_blobs": False,
                "since": None,
            }
        },
    }


def test_what_goes_on_is_the_same(site: Any) -> None:
    assert found(site).state == "same"
    site.writer.commit()
    assert found(site).state == "same"
    site.writer.pack()
    assert found(site).state == "same"


def test_a_pack_over_all_that_was_known_is_the_same(site: Any) -> None:
    for _ in range(20):
        site.writer.commit()
    site.writer.pack()
    known_files.note(site.cluster)
    assert found(site).state == "same"


def test_a_prefix_of_itself_went_back(site: Any, tmp_path: Path) -> None:
    earlier = site.path.read_bytes()
    kept = last_tid(site.path)
    site.writer.commit()
    known_files.note(site.cluster)
    site.writer.close()
    site.path.write_bytes(earlier)
    finding = found(site)
    assert finding.state == "went back" and finding.last_kept == kept
    # Also once somebody has written to it.
    site.path.with_name("Data.fs.index").unlink(missing_ok=True)
    site.writer = Writer(site.path)
    site.writer.commit()
    assert found(site).state == "went back" and found(site).last_kept == kept
    # It is not forgotten by another look, only by somebody who accepts it.
    known_files.note(site.cluster)
    assert found(site).state == "went back"
    known_files.note(site.cluster, accept=["a"])
    assert found(site).state == "same"


def test_another_file_is_lost_however_late_its_end(site: Any, tmp_path: Path) -> None:
    site.writer.close()
    (tmp_path / "other").mkdir()
    other = Writer(tmp_path / "other/Data.fs")
    for _ in range(8):
        other.commit()
    other.close()
    shutil.copy2(tmp_path / "other/Data.fs", site.path)
    finding = found(site)
    assert finding.state == "lost" and "another file" in finding.words


@pytest.mark.parametrize("left", [0, 4])
def test_an_empty_file_is_lost(site: Any, left: int) -> None:
    site.writer.close()
    site.path.write_bytes(site.path.read_bytes()[:left])
    finding = found(site)
    assert finding.state == "lost" and "now it is empty" in finding.words


def test_every_cut_amid_a_transaction_is_lost_and_at_its_end_went_back(
    site: Any,
) -> None:
    site.writer.close()
    whole = site.path.read_bytes()
    with DataFile(site.path) as opened:
        ends = [4, *(one.end for one in opened.forward())]
    for length in range(5, len(whole), 7):
        site.path.write_bytes(whole[:length])
        state = found(site).state
        assert state == ("went back" if length in ends else "lost"), length
    for end in ends[1:-1]:
        site.path.write_bytes(whole[:end])
        assert found(site).state == "went back"


def test_after_a_restore_of_ours_the_file_is_expected_to_differ(site: Any) -> None:
    earlier = site.path.read_bytes()
    site.writer.commit()
    known_files.note(site.cluster)
    site.writer.close()
    site.path.write_bytes(earlier)
    point = Point({"a": last_tid(site.path)}, clock.now(), "restore", 2)
    write_beside(point, [site.path])
    assert found(site).state == "restored"
    assert known_files.timeline_begun(site.cluster) is None
    known_files.note(site.cluster)
    assert found(site).state == "same"
    assert known_files.timeline_begun(site.cluster) is not None
    # An empty one is not what was restored.
    site.path.write_bytes(b"FS30")
    assert found(site).state == "lost"


def test_a_file_between_the_two_renames_of_a_pack_is_not_lost(site: Any) -> None:
    site.writer.close()
    site.path.with_name("Data.fs.pack").write_bytes(site.path.read_bytes())
    site.path.rename(site.path.with_name("Data.fs.old"))
    assert found(site).state == "same"
    site.path.with_name("Data.fs.pack").unlink()
    assert found(site).state == "lost"
