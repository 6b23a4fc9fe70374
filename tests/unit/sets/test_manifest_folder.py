"""Which folders are sets: those that can be read, those that cannot, and none else."""

import dataclasses
import errno
from pathlib import Path

import pytest
from sample_manifest import sample

from tidstorage.errors import NoSuchSet, SetUnreadable
from tidstorage.sets import manifest
from tidstorage.sets.directory import BackupDirectory

FIRST, SECOND = "20261124T120000Z", "20261125T120000Z"


@pytest.fixture
def directory(tmp_path):
    made = BackupDirectory(tmp_path)
    for set_id in (FIRST, SECOND):
        made.set_folder(set_id).mkdir(parents=True)
        manifest.write(
            dataclasses.replace(sample(), id=set_id), made.set_folder(set_id)
        )
    return made


def ids(manifests):
    return [made.id for made in manifests]


def fail_at(monkeypatch, function, path, number=errno.EIO):
    """Let a method of Path fail at one path, until told otherwise."""
    original = getattr(Path, function)

    def failing(self, *arguments, **keywords):
        if self == path:
            raise OSError(number, "fails", str(self))
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(Path, function, failing)


@pytest.mark.parametrize("function", ["stat", "read_text"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_one_that_cannot_be_read_is_a_set_that_nobody_knows(
    directory, monkeypatch, function, number
):
    path = directory.manifest_path(SECOND)
    with monkeypatch.context() as patch:
        fail_at(patch, function, path, number)
        if function == "stat":
            # Whoever cannot look cannot read, either.
            fail_at(patch, "read_text", path, number)
        assert ids(directory.manifests()) == [FIRST]
        assert directory.set_ids() == [SECOND, FIRST]
        assert list(directory.unread_manifests()) == [SECOND]
        assert directory.broken_manifests() == []
        with pytest.raises(SetUnreadable, match="fails"):
            directory.manifest(SECOND)
    assert ids(directory.manifests()) == [SECOND, FIRST]
    assert directory.unread_manifests() == {}


@pytest.mark.parametrize("is_link", [False, True])
def test_a_copy_is_no_set_and_is_named(directory, is_link):
    copy = directory.set_folder("20261126T120000Z")
    if is_link:
        copy.symlink_to(SECOND)
    else:
        copy.mkdir()
        text = directory.manifest_path(SECOND).read_text()
        (copy / manifest.FILE_NAME).write_text(text)
    assert directory.set_ids() == [SECOND, FIRST]
    assert copy not in directory.set_folders()
    (stranger,) = directory.strangers()
    assert str(copy) in stranger
    assert directory.strange_manifests() == []
    with pytest.raises(NoSuchSet):
        directory.set(copy.name)


def test_what_a_set_needs_that_was_moved_behind_a_link_is_known(directory, tmp_path):
    folder = directory.set_folder(FIRST)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert directory.set_ids() == [SECOND]
    assert ids(directory.strange_manifests()) == [FIRST]


def test_a_folder_without_a_manifest_is_none_and_a_file_neither(directory):
    directory.set_folder("20261127T120000Z").mkdir()
    (directory.sets_folder / "notes").touch()
    assert directory.set_ids() == [SECOND, FIRST]
    assert directory.strangers() == []
