"""What is known of a set once several verifications have looked at it."""

import datetime

import pytest

from tidstorage.sets import manifest, verdicts
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.verdicts import Fault, Verification

EARLY = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
LATE = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
ROTTEN = Fault(path="storages/root/a.fs", what="is rotten", depth="digests")


@pytest.fixture
def directory(tmp_path):
    made = BackupDirectory(tmp_path)
    for set_id in ("1", "2"):
        folder = made.set_folder(set_id)
        folder.mkdir(parents=True)
        (folder / manifest.FILE_NAME).touch()
    return made


def test_a_depth_includes_those_before_it(directory):
    directory.note_verification("1", Verification("digests", EARLY))
    found = directory.verdict("1")
    assert found.good == {"sizes": EARLY, "digests": EARLY}
    assert (found.depth, found.faults, found.lost) == ("digests", (), None)
    assert directory.verdict("2") is None


def test_what_looks_less_deeply_takes_nothing_back(directory):
    directory.note_verification("1", Verification("digests", EARLY, [ROTTEN]))
    directory.note_verification("1", Verification("sizes", LATE))
    found = directory.verdict("1")
    assert found.faults == (ROTTEN,)
    assert found.good == {"sizes": LATE}
    directory.note_verification("1", Verification("objects", LATE, lost=3))
    directory.note_verification("1", Verification("sizes", LATE))
    found = directory.verdict("1")
    assert (found.faults, found.depth, found.lost) == ((), "objects", 3)


def test_a_fault_ends_what_was_good_so_deeply(directory):
    directory.note_verification("1", Verification("objects", EARLY, lost=0))
    directory.note_verification("1", Verification("digests", LATE, [ROTTEN]))
    assert directory.verdict("1").good == {"sizes": EARLY}


def test_a_file_that_is_good_again_is_no_fault_of_any_set(directory):
    for set_id in ("1", "2"):
        directory.note_verification(set_id, Verification("digests", EARLY, [ROTTEN]))
    known = directory.verdicts()
    assert verdicts.find_bad_files(known.values()) == {ROTTEN.path: ROTTEN.what}
    directory.forget_fault(ROTTEN.path, "sizes")
    assert verdicts.find_bad_files(directory.verdicts().values())
    directory.forget_fault(ROTTEN.path, "objects")
    assert verdicts.find_bad_files(directory.verdicts().values()) == {}


@pytest.mark.parametrize("text", ["", "{", '{"version": 2}', '{"faults": 7}'])
def test_one_that_is_broken_says_neither_good_nor_bad(directory, text):
    path = directory.sets_folder / "1" / verdicts.FILE_NAME
    path.write_text(text)
    verdict = directory.verdict("1")
    assert [unread.path for unread in verdict.unread] == ["sets/1/verified.json"]
    assert (verdict.faults, verdict.depth) == ((), None)
    directory.note_verification("1", Verification("sizes", LATE))
    assert directory.verdict("1").unread, "it may have told of a rotten byte"
    directory.note_verification("1", Verification("digests", LATE))
    assert directory.verdict("1").unread == ()


def test_nothing_is_kept_of_a_set_that_is_gone(directory):
    directory.note_verification("3", Verification("sizes", LATE))
    assert not (directory.sets_folder / "3").exists()
    folder = directory.sets_folder / "2"
    (folder / manifest.FILE_NAME).rename(folder / "pruned.json")
    directory.note_verification("2", Verification("sizes", LATE))
    assert directory.verdict("2") is None
