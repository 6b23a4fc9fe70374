"""What we write, stock repozo restores; what it writes, we restore.

It runs as a process of its own, as an operator without anything of ours would.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from backup_sets import backup_directory
from small_cluster import small_cluster
from ZODB.FileStorage import FileStorage

from tidstorage.coherence import tid
from tidstorage.engines import filestorage
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_elsewhere,
)

pytestmark = pytest.mark.integration
REPOZO = Path(sys.executable).with_name("repozo")


def stock(*arguments):
    """Run repozo; its exit status, and what it said."""
    done = subprocess.run(
        [REPOZO, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def date(stored):
    """When the copy of a set was made, as repozo's -D takes it."""
    return Path(stored.files[-1].path).name.partition(".")[0]


@pytest.fixture
def small(tmp_path):
    with small_cluster(tmp_path) as made:
        yield made


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_restores_what_we_wrote(small, tmp_path, compress):
    cluster = small.cluster(compress=compress)
    small.write(1, 20)
    made = [back_up(cluster)]
    for seed in (2, 3):
        # Amid a load, so that copies hold more than the point covers.
        with small.writer(seed):
            made.append(back_up(cluster))
    assert [each.kind for each in made] == ["full", "incremental", "incremental"]
    small.stop()

    for each in made:
        for storage in cluster.storages:
            folder = backup_directory(cluster).repository(storage.id)
            output = tmp_path / f"{each.id}-{storage.id}.fs"
            second = date(each.storage(storage.id))
            status, said = stock("-R", "-r", folder, "-D", second, "-o", output)
            assert status == 0, said
            live = storage.data_file.read_bytes()
            assert output.read_bytes() == live[: each.storage(storage.id).size]
            last = each.point.vector[storage.id]
            end = filestorage.position_after(storage.data_file, last)
            assert 4 < end <= output.stat().st_size
            opened = FileStorage(str(output), read_only=True)
            assert tid.from_bytes(opened.lastTransaction()) >= last
            opened.close()


def test_verifies_what_we_wrote(small):
    cluster = small.cluster(compress=True)
    for seed in (1, 2):
        small.write(seed, 10)
        made = back_up(cluster)
    for storage in cluster.storages:
        folder = backup_directory(cluster).repository(storage.id)
        for more in ([], ["-Q"]):
            status, said = stock("-V", *more, "-r", folder)
            assert status == 0, said
    stored = made.storage("root").files[-1]
    path = cluster.backup.directory / stored.path
    path.write_bytes(path.read_bytes()[:-1])
    status, said = stock("-V", "-r", path.parent)
    assert status != 0


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_we_restore_what_it_wrote(small, tmp_path, compress):
    """A chain of stock repozo's, which a set of ours then names."""
    cluster = small.cluster(compress=compress)
    options = ["-z"] if compress else []
    for seed in (1, 2):
        small.write(seed, 10)
        for storage in cluster.storages:
            folder = backup_directory(cluster).repository(storage.id)
            folder.mkdir(parents=True, exist_ok=True)
            status, said = stock(
                "-B", "-Q", *options, "-r", folder, "-f", storage.data_file
            )
            assert status == 0, said
    made = back_up(cluster)
    assert made.kind == "unchanged"
    assert all(len(each.files) == 2 for each in made.storages)
    small.stop()
    restore_elsewhere(cluster, Request(), tmp_path / "restored")
    for storage in cluster.storages:
        restored = tmp_path / "restored" / storage.id / "Data.fs"
        assert restored.read_bytes() == storage.data_file.read_bytes()
