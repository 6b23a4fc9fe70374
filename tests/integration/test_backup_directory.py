"""The backup directory: where a disk is not mounted there is another, or none."""

import argparse
import dataclasses
import re
import shutil

import pytest
from backup_sets import backup_directory, with_backup
from small_cluster import small_cluster

from tidstorage.commands import backup, backups
from tidstorage.deployment import install
from tidstorage.errors import (
    BackupDirectoryLost,
    DataFileLost,
    EngineFailed,
    FileUnreadable,
)
from tidstorage.sets import marker
from tidstorage.system import private_files
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    preview_in_place,
    restore_elsewhere,
)
from tidstorage.verbs.status import status

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path):
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


class TestTheBackupDirectory:
    """Where a disk is not mounted there is an empty folder, or none."""

    def used(self, small, tmp_path):
        """A cluster that has backed up to a folder of a disk."""
        disk = tmp_path / "disk"
        disk.mkdir()
        cluster = with_backup(small.cluster(), directory=disk / "backup")
        back_up(cluster)
        return cluster, disk

    def refused(self, cluster, match):
        into = cluster.directory / "into"
        for verb in (
            lambda: back_up(cluster),
            lambda: backups.run(argparse.Namespace(json=False), cluster),
            lambda: backup.run(argparse.Namespace(dry_run=True, json=True), cluster),
            lambda: restore_elsewhere(cluster, Request(), into),
            lambda: preview_in_place(cluster, Request()),
        ):
            with pytest.raises(BackupDirectoryLost, match=match) as caught:
                verb()
            assert "Is its disk mounted?" in caught.value.hint
        assert not into.exists()
        assert re.search(match, status.status(cluster).no_sets)

    def test_gone_or_empty_is_refused_and_stays_so(self, small, tmp_path):
        cluster, disk = self.used(small, tmp_path)
        disk.rename(tmp_path / "unmounted")
        disk.mkdir()
        self.refused(cluster, "now it is not there")
        install.make_directories(cluster)
        assert list(disk.iterdir()) == []
        cluster.backup.directory.mkdir()
        self.refused(cluster, "now it holds no tidstorage-backup.json")
        install.make_directories(cluster)
        assert list(cluster.backup.directory.iterdir()) == []
        cluster.backup.directory.rmdir()
        disk.rmdir()
        (tmp_path / "unmounted").rename(disk)
        assert back_up(cluster).kind == "unchanged"

    def test_the_hint_tells_how_to_begin_anew(self, small, tmp_path):
        cluster, disk = self.used(small, tmp_path)
        shutil.rmtree(disk)
        with pytest.raises(BackupDirectoryLost) as caught:
            back_up(cluster)
        note = marker.note_path(cluster)
        assert str(note) in caught.value.hint
        note.unlink()
        assert back_up(cluster).kind == "full"

    def test_another_directory_in_its_place_is_refused(self, small, tmp_path):
        """As where backups went before a disk was mounted over them."""
        cluster, disk = self.used(small, tmp_path)
        note = marker.note_path(cluster)
        held = note.read_text()
        shutil.rmtree(disk)
        note.unlink()
        back_up(cluster)
        note.write_text(held)
        self.refused(cluster, "of another one")

    def test_of_before_there_were_markers_is_adopted(self, small, tmp_path):
        cluster, _ = self.used(small, tmp_path)
        (cluster.backup.directory / marker.FILE_NAME).unlink()
        marker.note_path(cluster).unlink()
        assert back_up(cluster).kind == "unchanged"
        shutil.rmtree(cluster.backup.directory)
        self.refused(cluster, "is not there")

    def test_a_cluster_that_got_another_name_goes_on(self, small, tmp_path):
        cluster, _ = self.used(small, tmp_path)
        other = dataclasses.replace(cluster, name="other")
        assert back_up(other).kind == "unchanged"

    def test_a_note_that_nobody_can_read_is_no_leave_to_begin_anew(
        self, small, tmp_path
    ):
        cluster, disk = self.used(small, tmp_path)
        shutil.rmtree(disk)
        marker.note_path(cluster).write_text('{"version": 1')
        with pytest.raises(FileUnreadable, match="is not a note of the backup"):
            back_up(cluster)
        install.make_directories(cluster)
        assert not disk.exists()


def test_blobs_whose_disk_is_not_mounted_are_no_empty_set_of_blobs(small, tmp_path):
    cluster = small.cluster()
    good = back_up(cluster)
    folder = cluster.storage("documents").blob_directory
    folder.rename(tmp_path / "unmounted")
    for _ in range(2):
        with pytest.raises(DataFileLost, match="was its blob directory") as caught:
            back_up(cluster)
        assert "Is every disk mounted" in caught.value.hint
        folder.mkdir(exist_ok=True)
    folder.rmdir()
    (tmp_path / "unmounted").rename(folder)
    again = back_up(cluster).storage("documents")
    assert again.blob_count == good.storage("documents").blob_count > 0


def test_sets_that_nobody_can_read_are_not_said_to_be_none(small):
    cluster = small.cluster()
    folder = backup_directory(cluster).sets_folder
    private_files.make_folder(folder.parent)
    folder.touch()
    with pytest.raises(EngineFailed, match="cannot be read"):
        backups.run(argparse.Namespace(json=False), cluster)
