"""Who else could read, replace or redirect a backup; and a disk that is too small."""

import argparse
import os
import random
import shutil
import subprocess

import pytest
from backup_sets import backup_directory
from offline_site import OfflineSite
from small_cluster import SmallCluster
from torn_files import TornFiles

from tidstorage.commands import backup
from tidstorage.engines.filestorage import DataFile
from tidstorage.errors import NoSpace, NotPermitted, Unprotected
from tidstorage.sets.directory import BackupDirectory
from tidstorage.system import permissions, private_files
from tidstorage.verbs.backup import room
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_elsewhere,
    restore_in_place,
)

pytestmark = pytest.mark.integration
NOBODY = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do that")


@pytest.fixture
def cluster(tmp_path):
    made = SmallCluster(tmp_path).cluster()
    for storage in made.storages:
        storage.data_file.touch(0o600)
    return made


@pytest.fixture
def used(cluster):
    """A backup directory that was used before, with a copy of each storage."""
    directory = BackupDirectory.begin(cluster)
    for storage in cluster.storages:
        folder = directory.repository(storage.id)
        private_files.make_folder(folder)
        os.close(private_files.create(folder / "2026-11-26-12-00-00.fs"))
    BackupDirectory.begin(cluster)
    return directory.path


def open_up(directory, mode):
    for each in (directory, *directory.rglob("*")):
        each.chmod(mode if each.is_dir() else mode & 0o666)


class TestMoreReadable:
    @pytest.mark.parametrize(
        ("mode", "users"), [(0o755, "group"), (0o750, "group"), (0o705, "others")]
    )
    def test_than_the_data(self, cluster, used, mode, users):
        open_up(used, mode)
        with pytest.raises(Unprotected, match=f"read by {users}, and") as error:
            BackupDirectory.begin(cluster)
        assert error.value.hint == f"chmod -R go-rwx {used}"
        subprocess.run(error.value.hint.split(), check=True)
        BackupDirectory.begin(cluster)

    def test_as_readable_as_the_data_is_well(self, cluster, used):
        open_up(used, 0o755)
        for storage in cluster.storages:
            storage.data_file.chmod(0o644)
            storage.data_file.parent.chmod(0o755)
        BackupDirectory.begin(cluster)

    def test_data_in_a_closed_folder_is_not_readable(self, cluster, used):
        open_up(used, 0o755)
        for storage in cluster.storages:
            storage.data_file.chmod(0o644)
            storage.data_file.parent.chmod(0o700)
        with pytest.raises(Unprotected):
            BackupDirectory.begin(cluster)

    @pytest.mark.parametrize("closed", ["", "storages", "storages/root"])
    def test_a_closed_folder_above_protects(self, cluster, used, closed):
        open_up(used / "storages" / "root", 0o755)
        (used / "storages").chmod(0o755)
        used.chmod(0o755)
        (used / closed).chmod(0o700)
        BackupDirectory.begin(cluster)


class TestLinks:
    @pytest.mark.parametrize(
        "name", ["sets", "storages", "blobs", "storages/root", "blobs/documents"]
    )
    def test_in_place_of_a_folder(self, cluster, used, tmp_path, name):
        path = used / name
        if path.is_dir():
            shutil.rmtree(path)
        path.parent.mkdir(exist_ok=True)
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Unprotected, match="is a symbolic link, to") as error:
            BackupDirectory.begin(cluster)
        assert str(path) in str(error.value) and "find out who" in error.value.hint
        assert not [*(tmp_path / "elsewhere").iterdir()]

    def test_in_a_repository(self, cluster, used, tmp_path):
        (tmp_path / "precious").write_text("precious")
        path = used / "storages" / "root" / "tmp.tmp"
        path.symlink_to(tmp_path / "precious")
        with pytest.raises(Unprotected, match=r"tmp\.tmp"):
            BackupDirectory.begin(cluster)
        assert (tmp_path / "precious").read_text() == "precious"

    def test_where_a_file_is_to_be_made(self, tmp_path):
        (tmp_path / "precious").write_text("precious")
        (tmp_path / "new").symlink_to(tmp_path / "precious")
        with pytest.raises(OSError, match="symbolic"):
            private_files.create(tmp_path / "new")
        assert (tmp_path / "precious").read_text() == "precious"

    def test_the_directory_itself_may_be_behind_one(self, cluster, used, tmp_path):
        """The administrator's own, as the description names it."""
        used.rename(tmp_path / "disk")
        used.symlink_to(tmp_path / "disk")
        BackupDirectory.begin(cluster)


@ROOT_ONLY
class TestOtherOwner:
    def test_of_the_backup_directory(self, cluster, used):
        os.chown(used, NOBODY, NOBODY)
        with pytest.raises(NotPermitted, match="belongs to user") as error:
            BackupDirectory.begin(cluster)
        assert "[cluster] user" in error.value.hint

    def test_what_is_roots_is_as_good_as_ours(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
        permissions.refuse_other_owner(tmp_path)


class TestRestore:
    """What is put beside the present files, or into a folder of its own."""

    @pytest.fixture
    def site(self, tmp_path, monkeypatch):
        (tmp_path / "site").mkdir()
        made = OfflineSite(tmp_path / "site", monkeypatch)
        made.files.commit("a b")
        made.files.close()
        back_up(made.cluster)
        return made

    @pytest.mark.parametrize("name", ["a.fs.restoring", "a.blobs.restoring"])
    def test_a_link_in_place_of_staging(self, site, tmp_path, name):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "precious").write_text("precious")
        trap = site.files.paths["a"].with_name(name)
        target = elsewhere if "blobs" in name else elsewhere / "precious"
        trap.symlink_to(target)
        before = site.contents()
        with pytest.raises(Unprotected, match="is a symbolic link, to") as error:
            restore_in_place(site.cluster, Request())
        assert str(trap) in str(error.value)
        assert (elsewhere / "precious").read_text() == "precious"
        assert site.contents() == before
        trap.unlink()
        restore_in_place(site.cluster, Request())

    @ROOT_ONLY
    def test_a_folder_of_another_owner(self, site, tmp_path):
        folder = tmp_path / "into"
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
        with pytest.raises(NotPermitted, match="belongs to user"):
            restore_elsewhere(site.cluster, Request(), folder)
        assert not [*folder.iterdir()]


class TestRoom:
    @pytest.fixture
    def files(self, tmp_path):
        made = TornFiles(tmp_path / "files", "a")
        chance = random.Random(1)
        root = made.connections["a"].root()
        for number in range(30):
            # Half of it can be compressed away.
            root[f"noise {number}"] = chance.randbytes(10_000) + bytes(10_000)
            made.commit("a")
        made.close()
        return made

    def test_least_is_close_and_never_more(self, files):
        path = files.paths["a"]
        size = path.stat().st_size
        packed = subprocess.run(["gzip", "-c", path], capture_output=True, check=True)
        with DataFile(path) as data_file:
            assert room.estimate_least(data_file, 0, size, compress=False) == size
            least = room.estimate_least(data_file, 0, size, compress=True)
            assert len(packed.stdout) / 2 < least <= len(packed.stdout)
            assert room.estimate_least(data_file, size, size, compress=True) == 0

    def test_holes_need_none(self, tmp_path):
        path = tmp_path / "sparse"
        with path.open("wb") as stream:
            stream.write(b"FS21")
            stream.truncate(1 << 30)
        with DataFile(path) as data_file:
            assert room.estimate_least(data_file, 0, 1 << 30, compress=False) < 1 << 20

    def test_refused_before_anything_is_written(self, tmp_path):
        free = shutil.disk_usage(tmp_path).free
        room.refuse_lack(tmp_path / "backup", 1000)
        with pytest.raises(NoSpace, match="the backup needs") as error:
            room.refuse_lack(tmp_path / "backup", free * 2)
        assert "prune" in error.value.hint

    def test_a_backup_asks_before_it_copies(self, tmp_path, monkeypatch):
        site = OfflineSite(tmp_path, monkeypatch)
        site.files.commit("a b")
        site.files.close()
        usage = shutil.disk_usage(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=99))
            with pytest.raises(NoSpace, match="99 bytes free; the backup needs"):
                back_up(site.cluster)
        assert not [*site.excess()]
        back_up(site.cluster)


class TestOneDisk:
    def test_is_told_to_an_operator(self, tmp_path, monkeypatch, capsys):
        site = OfflineSite(tmp_path, monkeypatch)
        site.files.commit("a b")
        site.files.close()
        parser = argparse.ArgumentParser()
        backup.add_arguments(parser)
        assert backup.run(parser.parse_args([]), site.cluster) == 0
        assert "data of a, b: one broken disk destroys both" in capsys.readouterr().err
        assert backup.run(parser.parse_args(["--json"]), site.cluster) == 0
        assert "one broken disk" not in capsys.readouterr().err

    @ROOT_ONLY
    def test_of_its_own_is_well(self, cluster, used):
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "none", used], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("mounting is not allowed here")
        try:
            assert backup_directory(cluster).shares_disk_with(cluster.storages) == []
        finally:
            subprocess.run(["umount", used], check=True)
