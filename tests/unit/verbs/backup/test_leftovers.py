"""What a killed backup has left is removed, and nothing that a set names."""

import pytest

from tidstorage.sets import begun, manifest
from tidstorage.sets.blob_pool import list_path
from tidstorage.sets.directory import BackupDirectory
from tidstorage.verbs.backup import leftovers

KILLED = "20261124T120000Z"
BEFORE, HALF, NAMED = (
    f"2026-11-24-12-00-0{second}.{suffix}"
    for second, suffix in enumerate(("fs", "deltafs", "deltafs"))
)


@pytest.fixture
def directory(tmp_path):
    """A set was begun when one file was there; two more were written since."""
    made = BackupDirectory(tmp_path)
    repository = made.repository("root")
    repository.mkdir(parents=True)
    for name in (BEFORE, HALF, NAMED):
        (repository / name).touch()
    made.set_folder(KILLED).mkdir(parents=True)
    begun.write(made.set_folder(KILLED), {"root": [BEFORE]})
    blob_list = list_path(made.pool("root"), KILLED)
    blob_list.parent.mkdir(parents=True)
    blob_list.touch()
    return made


def names(directory):
    return {path.name for path in directory.repository("root").iterdir()}


def named(directory):
    return {directory.relative(directory.repository("root") / NAMED)}


def test_what_it_had_begun_goes_and_what_a_set_names_stays(directory):
    assert leftovers.remove_unfinished_sets(directory, named(directory)) == []
    assert names(directory) == {BEFORE, NAMED}
    assert not directory.set_folder(KILLED).exists()
    assert not list_path(directory.pool("root"), KILLED).exists()


def test_no_file_goes_where_nobody_can_tell_what_sets_name(directory):
    (reason,) = leftovers.remove_unfinished_sets(directory, None)
    assert reason.startswith(f"{directory.set_folder(KILLED)} was not finished")
    assert names(directory) == {BEFORE, HALF, NAMED}
    assert not directory.set_folder(KILLED).exists()


def test_no_file_goes_where_nobody_can_tell_what_was_there_before(directory):
    (directory.set_folder(KILLED) / begun.FILE_NAME).write_text("{")
    (reason,) = leftovers.remove_unfinished_sets(directory, named(directory))
    assert "files of that set may be left" in reason
    assert names(directory) == {BEFORE, HALF, NAMED}


def test_a_set_that_is_finished_loses_only_the_note(directory):
    (directory.set_folder(KILLED) / manifest.FILE_NAME).touch()
    assert leftovers.remove_unfinished_sets(directory, named(directory)) == []
    assert names(directory) == {BEFORE, HALF, NAMED}
    assert [path.name for path in directory.set_folder(KILLED).iterdir()] == [
        manifest.FILE_NAME
    ]
