"""Backups beside sets, and of files, that the disk does not let be read just now."""

import errno
import os

import pytest
from backup_sets import backup_directory, whole_sets
from failing_disk import failing, run_verb
from small_cluster import small_cluster

from tidstorage.errors import SetUnreadable
from tidstorage.sets import begun, manifest
from tidstorage.verbs.backup.backup import back_up

pytestmark = pytest.mark.integration

EVERYWHERE = ["catalog", "documents", "root"]


@pytest.fixture
def small(tmp_path):
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


def dat_of(cluster, made):
    name = made.storage("root").files[0].path.rpartition("/")[2].partition(".")[0]
    return f"storages/root/{name}.dat", "open"


UNREADABLE = {
    "data": lambda _cluster, made: (made.storage("root").files[0].path, "stat"),
    "manifest": lambda _cluster, made: (f"{made.id}/{manifest.FILE_NAME}", "open"),
    "manifest's folder": lambda _cluster, made: (f"sets/{made.id}", "stat open"),
    "record of repozo": dat_of,
    "verdict": lambda _cluster, made: (f"{made.id}/verified.json", "open"),
    "blob list": lambda _cluster, made: (
        made.storage("documents").blob_lists[0].path,
        "read",
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_not_built_upon_nor_touched(small, kind):
    cluster = small.cluster()
    former = back_up(cluster)
    (backup_directory(cluster).set_folder(former.id) / "verified.json").write_text(
        '{"version": 1}'
    )
    small.write(2, 6, group=EVERYWHERE)
    path, calls = UNREADABLE[kind](cluster, former)
    done = run_verb(cluster, "backup", disk=failing(path, errno.ESTALE, calls))
    assert done.returncode == 0, done.stderr
    assert path in done.stderr and os.strerror(errno.ESTALE) in done.stderr
    made, before = whole_sets(cluster)
    assert before.manifest == former
    assert made.manifest.storage("root").kind == "full"
    # Once it can be read, all goes on as ever.
    small.write(3, 6, group=EVERYWHERE)
    assert back_up(cluster).storage("root").kind == "incremental"


def test_where_nobody_can_tell_which_sets_there_are_no_backup_is_made(small):
    cluster = small.cluster()
    former = back_up(cluster)
    folder = backup_directory(cluster).sets_folder
    done = run_verb(cluster, "backup", disk=failing(folder, errno.EIO, "list"))
    assert done.returncode == SetUnreadable.exit_status, done.stderr
    assert "sets cannot be read: Input/output error" in done.stderr
    assert [known.manifest for known in whole_sets(cluster)] == [former]


@pytest.mark.parametrize("calls", ["open", "stat", "read"])
def test_a_source_that_cannot_be_read_is_an_error_and_no_set(small, calls):
    cluster = small.cluster()
    former = back_up(cluster)
    small.write(2, 6, group=EVERYWHERE)
    blob = next(cluster.storage("documents").blob_directory.rglob("*.blob"))
    for path in (small.alpha.data_file("catalog"), blob.parent):
        if path == blob.parent and calls == "read":
            # Blobs that a former set has are not read again.
            continue
        disk = failing(path, errno.EACCES, "list" if path == blob.parent else calls)
        done = run_verb(cluster, "backup", disk=disk)
        if done.returncode == 0:
            # Of a Data.fs that is open its name need not be looked at.
            assert calls == "read"
        else:
            assert str(path) in done.stderr
            assert os.strerror(errno.EACCES) in done.stderr
        assert whole_sets(cluster)[-1].manifest == former
        assert all(known.is_whole for known in backup_directory(cluster).sets())


def test_a_killed_run_whose_note_cannot_be_read_waits_for_the_next_one(small):
    cluster = small.cluster()
    back_up(cluster)
    folder = backup_directory(cluster).set_folder("20200101T000000Z")
    folder.mkdir()
    names = [
        path.name for path in backup_directory(cluster).repository("root").iterdir()
    ]
    begun.write(folder, {"root": names})
    left = backup_directory(cluster).repository("root") / "2020-01-01-00-00-01.deltafs"
    left.touch()
    disk = failing(folder / begun.FILE_NAME, errno.EIO, "open read")
    done = run_verb(cluster, "backup", disk=disk)
    assert done.returncode == 0, done.stderr
    assert str(folder) in done.stderr
    assert folder.exists() and left.exists()
    assert run_verb(cluster, "backup").returncode == 0
    assert not folder.exists() and not left.exists()
    assert all(known.is_whole for known in backup_directory(cluster).sets())


def test_a_linked_or_copied_folder_of_a_killed_run_is_left_alone(small, tmp_path):
    cluster = small.cluster()
    back_up(cluster)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    begun.write(elsewhere, {"root": []})
    link = backup_directory(cluster).set_folder("20200101T000000Z")
    link.symlink_to(elsewhere)
    copy = backup_directory(cluster).set_folder("saved")
    copy.mkdir()
    begun.write(copy, {"root": []})
    done = run_verb(cluster, "backup")
    assert done.returncode == 0, done.stderr
    assert str(link) in done.stderr and str(copy) in done.stderr
    assert (elsewhere / begun.FILE_NAME).exists()
    assert (copy / begun.FILE_NAME).exists()
    assert len(whole_sets(cluster)) == 2
