"""What is known of a set once several verifications have looked at it."""

import datetime

import pytest

from tidstorage import manifest
from tidstorage.backup import layout, verified
from tidstorage.backup.verified import Fault, Outcome

EARLY = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
LATE = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
ROTTEN = Fault(path="storages/root/a.fs", what="is rotten", depth="digests")


@pytest.fixture
def directory(tmp_path):
    for set_id in ("1", "2"):
        folder = layout.sets(tmp_path) / set_id
        folder.mkdir(parents=True)
        (folder / manifest.FILE_NAME).touch()
    return tmp_path


def test_a_depth_includes_those_before_it(directory):
    verified.note(directory, "1", Outcome("digests", EARLY))
    found = verified.read(directory, "1")
    assert found.good == {"sizes": EARLY, "digests": EARLY}
    assert (found.depth, found.faults, found.lost) == ("digests", (), None)
    assert verified.read(directory, "2") is None


def test_what_looks_less_deeply_takes_nothing_back(directory):
    verified.note(directory, "1", Outcome("digests", EARLY, [ROTTEN]))
    verified.note(directory, "1", Outcome("sizes", LATE))
    found = verified.read(directory, "1")
    assert found.faults == (ROTTEN,)
    assert found.good == {"sizes": LATE}
    verified.note(directory, "1", Outcome("objects", LATE, lost=3))
    verified.note(directory, "1", Outcome("sizes", LATE))
    found = verified.read(directory, "1")
    assert (found.faults, found.depth, found.lost) == ((), "objects", 3)


def test_a_fault_ends_what_was_good_so_deeply(directory):
    verified.note(directory, "1", Outcome("objects", EARLY, lost=0))
    verified.note(directory, "1", Outcome("digests", LATE, [ROTTEN]))
    assert verified.read(directory, "1").good == {"sizes": EARLY}


def test_a_file_that_is_good_again_is_no_fault_of_any_set(directory):
    for set_id in ("1", "2"):
        verified.note(directory, set_id, Outcome("digests", EARLY, [ROTTEN]))
    known = verified.read_all(directory)
    assert verified.bad_files(known.values()) == {ROTTEN.path: ROTTEN.what}
    verified.forget(directory, ROTTEN.path, "sizes")
    assert verified.bad_files(verified.read_all(directory).values())
    verified.forget(directory, ROTTEN.path, "objects")
    assert verified.bad_files(verified.read_all(directory).values()) == {}


@pytest.mark.parametrize("text", ["", "{", '{"version": 2}', '{"faults": 7}'])
def test_one_that_cannot_be_read_is_none(directory, caplog, text):
    path = layout.sets(directory) / "1" / verified.FILE_NAME
    path.write_text(text)
    assert verified.read(directory, "1") is None
    assert "counts as never verified" in caplog.text
    verified.note(directory, "1", Outcome("sizes", LATE))
    assert verified.read(directory, "1").depth == "sizes"


def test_nothing_is_kept_of_a_set_that_is_gone(directory):
    verified.note(directory, "3", Outcome("sizes", LATE))
    assert not (layout.sets(directory) / "3").exists()
    folder = layout.sets(directory) / "2"
    (folder / manifest.FILE_NAME).rename(folder / "pruned.json")
    verified.note(directory, "2", Outcome("sizes", LATE))
    assert verified.read(directory, "2") is None
