"""What is known of a set once several verifications have looked at it."""

import datetime
import errno
from pathlib import Path

import pytest

from tidstorage.errors import SetUnreadable
from tidstorage.sets import manifest, verdicts
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.verdicts import Fault, Unread, Verification

EARLY = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
LATE = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
ROTTEN = Fault(path="storages/root/a.fs", what="is rotten", depth="digests")
UNREAD = Unread(path="storages/root/b.fs", what="could not be read", depth="digests")


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


def test_what_could_not_be_read_takes_nothing_back_and_gives_nothing(directory):
    directory.note_verification("1", Verification("digests", EARLY, [ROTTEN]))
    directory.note_verification("1", Verification("digests", LATE, unread=[UNREAD]))
    found = directory.verdict("1")
    assert (found.faults, found.unread) == ((ROTTEN,), (UNREAD,))
    directory.note_verification("2", Verification("digests", EARLY))
    directory.note_verification("2", Verification("digests", LATE, unread=[UNREAD]))
    found = directory.verdict("2")
    assert (found.faults, found.unread) == ((), (UNREAD,))
    assert found.good["digests"] == EARLY


@pytest.mark.parametrize(("depth", "left"), [("sizes", (UNREAD,)), ("digests", ())])
def test_the_second_look_ends_it_where_it_is_as_deep(directory, depth, left):
    for set_id in ("1", "2"):
        directory.note_unread([set_id], UNREAD)
    directory.note_verification("1", Verification(depth, LATE))
    assert directory.verdict("1").unread == left
    assert directory.verdict("2").unread == (UNREAD,)
    directory.forget_fault(UNREAD.path, depth)
    assert directory.verdict("2").unread == left


def test_the_second_look_may_find_it_bad(directory):
    directory.note_unread(["1"], UNREAD)
    other = UNREAD.model_copy(update={"path": "storages/root/c.fs"})
    directory.note_unread(["1"], other)
    bad = Fault(path=UNREAD.path, what="is rotten", depth="digests")
    directory.note_fault(["1"], bad)
    found = directory.verdict("1")
    assert (found.faults, found.unread) == ((bad,), (other,))


def test_a_verdict_that_cannot_be_read_is_not_written_anew(directory, monkeypatch):
    directory.note_verification("1", Verification("digests", EARLY, [ROTTEN]))
    path = directory.set_folder("1") / verdicts.FILE_NAME
    original = Path.read_bytes

    def fail(self):
        if self == path:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(SetUnreadable, match="Input/output error"):
            directory.note_verification("1", Verification("digests", LATE))
        directory.note_unread(["1", "2"], UNREAD)
        directory.forget_fault(ROTTEN.path, "objects")
        assert list(directory.verdicts()) == ["2"]
    assert directory.verdict("1").faults == (ROTTEN,)
    assert directory.verdict("1").unread == ()
