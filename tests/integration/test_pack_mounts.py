"""Packs where blobs are on another disk: refused as a whole, or done to the end."""

import os
import subprocess

import pytest
import ZEO
import ZODB
from backup_sets import backup_directory
from real_processes import PATIENCE
from small_cluster import SmallCluster
from ZODB.blob import Blob

from tidstorage.engines.filestorage.blob_files import blob_files
from tidstorage.errors import EngineFailed, PackUnsafe
from tidstorage.verbs.pack.pack import pack
from tidstorage.verbs.restore.target import targets_in_place

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
]


@pytest.fixture
def small(tmp_path):
    found = SmallCluster(tmp_path)
    # A storage that is begun anew empties its blob directory.
    found.start()
    found.stop()
    yield found
    found.kill()


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a folder on another, until the test is over."""
    places = []

    def mount(place):
        source = tmp_path / f"disk {len(places)}"
        for folder in (source, place):
            folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "--bind", source, place]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")
        places.append(place)
        return source

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", "--lazy", place], check=True)


def write_blobs(small):
    """Two states of a blob: what a pack removes, and what it leaves."""
    client = ZEO.client(
        small.beta.address,
        storage="documents",
        wait_timeout=PATIENCE,
        blob_dir=str(small.beta.blob_directory("documents")),
        shared_blob_dir=True,
    )
    database = ZODB.DB(client)
    with database.transaction() as connection:
        connection.root()["blob"] = Blob(b"a state")
    with database.transaction() as connection:
        stream = connection.root()["blob"].open("w")
        stream.write(b"another state")
        stream.close()
    database.close()


def count(small):
    return len([*blob_files(small.beta.blob_directory("documents"))])


def inodes(cluster):
    return [storage.data_file.stat().st_ino for storage in cluster.storages]


@pytest.mark.parametrize("below", ["", "0x00/0x00", "link"])
def test_refused_before_anything_is_packed(small, mounted, tmp_path, below):
    directory = small.beta.blob_directory("documents")
    if below == "link":
        mounted(tmp_path / "another disk")
        (directory / "0x00").symlink_to(tmp_path / "another disk")
    else:
        mounted(directory / below)
    small.start()
    write_blobs(small)
    small.write(1, 3, group=[*small.addresses])
    cluster = small.cluster()
    before = inodes(cluster)
    with pytest.raises(PackUnsafe, match="on another mount") as error:
        pack(cluster, 0)
    assert "keep-old = false" in error.value.hint
    assert inodes(cluster) == before
    assert not backup_directory(cluster).sets()


def test_done_to_the_end_where_the_server_keeps_nothing(small, mounted):
    mounted(small.beta.blob_directory("documents"))
    configuration = small.beta.configuration
    text = configuration.read_text()
    option = " pack-gc false\n pack-keep-old false\n"
    configuration.write_text(text.replace(" pack-gc false\n", option))
    small.start()
    write_blobs(small)
    small.write(1, 3, group=[*small.addresses])
    before = count(small)
    packed = pack(small.cluster(), 0)
    assert all(storage.changed for storage in packed.storages)
    assert count(small) < before
    assert not packed.set_after.storage("documents").missing_blobs


def test_a_restore_over_a_bind_mount_is_refused(small, mounted):
    mounted(small.beta.blob_directory("documents"))
    with pytest.raises(EngineFailed, match="is a mount point and cannot be renamed"):
        targets_in_place(small.cluster())
