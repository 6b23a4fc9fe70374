"""Blob directories of real servers: blobs behind links, and blobs that were lost."""

import pytest
from backup_sets import backup_directory
from real_processes import PATIENCE
from small_cluster import small_cluster
from ZEO.ClientStorage import ClientStorage

from tidstorage.cluster.cluster import Retention
from tidstorage.engines.filestorage.blob_files import blob_files
from tidstorage.errors import FileUnreadable
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.prune.prune import prune
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere
from tidstorage.verbs.verify.verify import VerifyRequest, verify

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path):
    with small_cluster(tmp_path) as running:
        running.write(1, 8)
        yield running


def blobs_of(small):
    """{path in the blob directory: its file}, oldest transaction first."""
    directory = small.beta.blob_directory("documents")
    found = sorted(blob_files(directory), key=lambda pair: pair[1])
    return {str(path.relative_to(directory)): path for path, _ in found}


def is_sound(cluster):
    """Whether every object of the newest set is there, and every blob."""
    return verify(cluster, VerifyRequest("latest", "objects")).is_good


def test_a_folder_that_was_moved_and_linked_is_backed_up(small, tmp_path):
    cluster = small.cluster()
    folder = small.beta.blob_directory("documents") / "0x00"
    folder.rename(tmp_path / "another disk")
    folder.symlink_to(tmp_path / "another disk")
    small.write(2, 8)
    count = len(blobs_of(small))
    assert count > 0
    made = back_up(cluster).storage("documents")
    assert (made.blob_count, made.missing_blobs) == (count, ())
    assert is_sound(cluster)
    (tmp_path / "another disk").rename(tmp_path / "not mounted")
    with pytest.raises(FileUnreadable, match=r"0x00 is a link to .*another disk"):
        back_up(cluster)


def pack(small):
    """By somebody else, all storages."""
    for storage, address in small.addresses.items():
        client = ClientStorage(address, storage=storage, wait_timeout=PATIENCE)
        client.pack(wait=True)
        client.close()


def test_a_blob_that_was_deleted_outlives_pack_and_prune(small, tmp_path):
    cluster = small.cluster()
    back_up(cluster)
    path, file = next(iter(blobs_of(small).items()))
    content = file.read_bytes()
    file.unlink()
    with small.writer(2):
        lost = [back_up(cluster).storage("documents")]
    small.write(3, 6, group=[*small.addresses])
    pack(small)
    lost.append(back_up(cluster).storage("documents"))
    assert [made.kind for made in lost] == ["incremental", "full"]
    assert [(made.lost_blobs, made.missing_blobs) for made in lost] == [
        ((path,), ()),
        ((path,), ()),
    ]
    prune(cluster, Retention(keep_full=1))
    assert len(backup_directory(cluster).manifests()) == 1
    assert is_sound(cluster)
    restore_elsewhere(cluster, Request(), tmp_path / "restored")
    restored = tmp_path / "restored/documents/blobs" / path
    assert restored.read_bytes() == content
