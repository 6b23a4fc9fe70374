"""What is known of a set once several verifications have looked at it."""

import datetime

import pytest

from tidstorage.sets import layout, manifest, verdicts
from tidstorage.sets.verdicts import Fault, Outcome

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
    verdicts.note(directory, "1", Outcome("digests", EARLY))
    found = verdicts.read(directory, "1")
    assert found.good == {"sizes": EARLY, "digests": EARLY}
    assert (found.depth, found.faults, found.lost) == ("digests", (), None)
    assert verdicts.read(directory, "2") is None


def test_what_looks_less_deeply_takes_nothing_back(directory):
    verdicts.note(directory, "1", Outcome("digests", EARLY, [ROTTEN]))
    verdicts.note(directory, "1", Outcome("sizes", LATE))
    found = verdicts.read(directory, "1")
    assert found.faults == (ROTTEN,)
    assert found.good == {"sizes": LATE}
    verdicts.note(directory, "1", Outcome("objects", LATE, lost=3))
    verdicts.note(directory, "1", Outcome("sizes", LATE))
    found = verdicts.read(directory, "1")
    assert (found.faults, found.depth, found.lost) == ((), "objects", 3)


def test_a_fault_ends_what_was_good_so_deeply(directory):
    verdicts.note(directory, "1", Outcome("objects", EARLY, lost=0))
    verdicts.note(directory, "1", Outcome("digests", LATE, [ROTTEN]))
    assert verdicts.read(directory, "1").good == {"sizes": EARLY}


def test_a_file_that_is_good_again_is_no_fault_of_any_set(directory):
    for set_id in ("1", "2"):
        verdicts.note(directory, set_id, Outcome("digests", EARLY, [ROTTEN]))
    known = verdicts.read_all(directory)
    assert verdicts.bad_files(known.values()) == {ROTTEN.path: ROTTEN.what}
    verdicts.forget(directory, ROTTEN.path, "sizes")
    assert verdicts.bad_files(verdicts.read_all(directory).values())
    verdicts.forget(directory, ROTTEN.path, "objects")
    assert verdicts.bad_files(verdicts.read_all(directory).values()) == {}


@pytest.mark.parametrize("text", ["", "{", '{"version": 2}', '{"faults": 7}'])
def test_one_that_cannot_be_read_is_none(directory, caplog, text):
    path = layout.sets(directory) / "1" / verdicts.FILE_NAME
    path.write_text(text)
    assert verdicts.read(directory, "1") is None
    assert "counts as never verified" in caplog.text
    verdicts.note(directory, "1", Outcome("sizes", LATE))
    assert verdicts.read(directory, "1").depth == "sizes"


def test_nothing_is_kept_of_a_set_that_is_gone(directory):
    verdicts.note(directory, "3", Outcome("sizes", LATE))
    assert not (layout.sets(directory) / "3").exists()
    folder = layout.sets(directory) / "2"
    (folder / manifest.FILE_NAME).rename(folder / "pruned.json")
    verdicts.note(directory, "2", Outcome("sizes", LATE))
    assert verdicts.read(directory, "2") is None
