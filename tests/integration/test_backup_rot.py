"""Backups of files that move, and upon files that rotted or are gone."""

import argparse
import json

import pytest
from backup_sets import backup_directory, flip_a_byte, pack, repozo, whole_sets
from small_cluster import small_cluster

from tidstorage.commands import backups
from tidstorage.errors import EngineFailed, NotCoherent
from tidstorage.sets import begun, manifest
from tidstorage.sets import repozo as repository
from tidstorage.sets.directory import BackupDirectory
from tidstorage.system import private_files
from tidstorage.verbs.backup import copying, set_point
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.backup.copy_anew import CopyAnew
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_elsewhere,
)
from tidstorage.verbs.verify.verify import VerifyRequest, verify

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path):
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


def test_what_rots_in_the_repository_keeps_the_digest_it_had(small):
    """Else every later set would call the rotten bytes what was written."""
    cluster = small.cluster()
    first = back_up(cluster)
    rotten = first.storage("root").files[0]
    flip_a_byte(cluster.backup.directory / rotten.path)
    small.write(2, 6, group=["root"])
    made = back_up(cluster)
    assert made.storage("root").kind == "incremental"
    assert made.storage("root").files[0] == rotten
    into = small.folder / "restored"
    with pytest.raises(NotCoherent, match=f"{rotten.path} is not what was written"):
        restore_elsewhere(cluster, Request(), into)


@pytest.mark.parametrize("compress", [False, True])
def test_what_rotted_before_any_manifest_named_it_is_copied_anew(
    small, caplog, compress
):
    """Files of plain repozo: it has noted the digest of what it read."""
    cluster = small.cluster(compress=compress)
    for storage in cluster.storages:
        folder = backup_directory(cluster).repository(storage.id)
        private_files.make_folder(folder)
        options = ["-z"] if compress else []
        repozo("-B", *options, "-r", folder, "-f", storage.data_file)
    (rotten,) = backup_directory(cluster).repository("root").glob("*.fs*")
    flip_a_byte(rotten)
    small.write(2, 6, group=["catalog", "documents", "root"])
    made = back_up(cluster)
    assert made.kind == "full"
    assert f"{rotten} is not what repozo wrote" in caplog.text
    restore_elsewhere(cluster, Request(), small.folder / "restored")


def test_after_a_list_of_blobs_rotted_copies_begin_anew(small, caplog):
    cluster = small.cluster()
    made = back_up(cluster)
    (rotten,) = made.storage("documents").blob_lists
    flip_a_byte(cluster.backup.directory / rotten.path)
    again = back_up(cluster)
    assert rotten.path in caplog.text
    assert again.kind == "full"
    assert again.storage("documents").blob_count == (
        made.storage("documents").blob_count
    )
    restore_elsewhere(cluster, Request(), small.folder / "restored")


def test_a_pack_amid_the_copy_makes_it_begin_anew(small, monkeypatch):
    cluster = small.cluster()
    back_up(cluster)
    real, packed = copying._copy_one, []

    def pack_first(preparation, source, *rest):
        if source.storage.id == "catalog" and not packed:
            packed.append(source)
            pack(small)
        return real(preparation, source, *rest)

    monkeypatch.setattr(copying, "_copy_one", pack_first)
    made = back_up(cluster)
    assert packed
    assert made.kind == "full"
    folder = backup_directory(cluster).repository("catalog")
    files = {each.path.rpartition("/")[2] for each in made.storage("catalog").files}
    (first,) = set(repository.list_files(folder)) - files
    assert first < min(files), "the copy of two files' bytes is still there"


def test_a_file_replaced_amid_the_copy_is_copied_anew(small, monkeypatch):
    """By whatever: what is examined may be another file than what was copied."""
    cluster = small.cluster()
    back_up(cluster)
    small.write(2, 5, group=["catalog"])
    real, replaced = copying._copy_one, []

    def copy_and_replace(preparation, source, *rest):
        copied = real(preparation, source, *rest)
        if source.storage.id == "catalog" and not replaced:
            replaced.append(source)
            path = source.storage.data_file
            other = path.with_name("other")
            other.write_bytes(path.read_bytes())
            other.rename(path)
        return copied

    monkeypatch.setattr(copying, "_copy_one", copy_and_replace)
    assert back_up(cluster).kind == "full"


def test_packs_without_end_are_an_error(small, monkeypatch):
    cluster = small.cluster()
    good = back_up(cluster)

    def moved(*_arguments):
        raise CopyAnew("catalog was replaced")

    monkeypatch.setattr(set_point, "choose_set_point", moved)
    files = sorted(cluster.backup.directory.rglob("*"))
    with pytest.raises(EngineFailed, match=r"3 attempts .* catalog was replaced"):
        back_up(cluster)
    assert sorted(cluster.backup.directory.rglob("*")) == files
    assert [each.manifest for each in whole_sets(cluster)] == [good]


def test_a_set_that_is_not_whole_is_never_offered_as_such(small, capsys):
    cluster = small.cluster()
    back_up(cluster)
    made = back_up(cluster)
    directory = cluster.backup.directory
    path = directory / made.storage("root").files[0].path
    path.write_bytes(path.read_bytes()[:-1])
    assert whole_sets(cluster) == []
    backups.run(argparse.Namespace(json=False), cluster)
    assert "NO: storages/root/" in capsys.readouterr().out
    (BackupDirectory(directory).sets_folder / made.id / manifest.FILE_NAME).write_text(
        "{"
    )
    backups.run(argparse.Namespace(json=True), cluster)
    output = capsys.readouterr()
    assert '"whole": false' in output.out
    assert made.id in output.err


def test_after_a_broken_manifest_nothing_is_removed_and_copies_begin_anew(small):
    cluster = small.cluster()
    first = back_up(cluster)
    directory = cluster.backup.directory
    (BackupDirectory(directory).sets_folder / first.id / manifest.FILE_NAME).write_text(
        "{"
    )
    small.write(2, 3)
    assert back_up(cluster).kind == "full"
    for stored in first.files():
        assert (directory / stored.path).stat().st_size == stored.size
    # Not for ever: what came after it is sound.
    small.write(3, 6, group=["catalog", "documents", "root"])
    assert back_up(cluster).kind == "incremental"
    folder = BackupDirectory(directory).sets_folder / "20200101T000000Z"
    folder.mkdir()
    record = {"version": 1, "existing": {"root": []}}
    (folder / begun.FILE_NAME).write_text(json.dumps(record))
    assert back_up(cluster).kind == "full", "files of a killed run may be in the way"


def test_after_a_file_of_the_last_set_is_gone_copies_begin_anew(small, caplog):
    cluster = small.cluster()
    back_up(cluster)
    small.write(2, 6, group=["catalog", "documents", "root"])
    second = back_up(cluster)
    assert second.kind == "incremental"
    gone = second.storage("root").files[-1].path
    (cluster.backup.directory / gone).unlink()
    small.write(3, 3)
    made = back_up(cluster)
    assert made.kind == "full"
    assert gone in caplog.text
    assert whole_sets(cluster)[0].manifest == made
    # Nor is anything built on what rots, once that is known.
    flip_a_byte(cluster.backup.directory / made.storage("root").files[0].path)
    assert not verify(cluster, VerifyRequest("latest", "digests")).is_good
    small.write(4, 3)
    assert back_up(cluster).kind == "full"
