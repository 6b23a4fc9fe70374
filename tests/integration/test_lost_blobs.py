"""Blobs that are deleted at the source: sets name them, and the last copy stays."""

import argparse
import dataclasses
import json

import pytest
import transaction
from backup_sets import backup_directory
from offline_site import OfflineSite
from ZODB.blob import Blob

from tidstorage.cluster.cluster import Retention
from tidstorage.commands import backups as backups_verb
from tidstorage.commands import restore as restore_verb
from tidstorage.engines.filestorage import blob_files
from tidstorage.errors import FileUnreadable
from tidstorage.operation import results
from tidstorage.sets import manifest
from tidstorage.sets.blob_pool import pool_path, read_lists
from tidstorage.verbs.backup import lost_blobs
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.backup.lost_blobs import Losses, NeededBlobs
from tidstorage.verbs.prune.prune import plan, prune
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    plan_elsewhere,
    preview,
    restore_elsewhere,
    restore_in_place,
)
from tidstorage.verbs.status import status
from tidstorage.verbs.verify.verify import VerifyRequest, verify

pytestmark = pytest.mark.integration

ONE = Retention(keep_full=1)


class Site(OfflineSite):
    """An offline site whose storage a has blobs."""

    def __init__(self, folder, monkeypatch):
        super().__init__(folder, monkeypatch)
        self.files.close()
        self.commit("a b", "a b", "a b")

    @property
    def folder(self):
        return self.files.blobs["a"]

    def blobs(self):
        """{path in the blob directory: bytes}, oldest transaction first."""
        found = sorted(blob_files.blob_files(self.folder), key=lambda pair: pair[1])
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path, _ in found
        }

    def lose(self, number=0):
        """Delete a blob at the source; its path and bytes."""
        path, content = [*self.blobs().items()][number]
        (self.folder / path).unlink()
        return path, content

    def change(self, work):
        """Let ``work`` do something with the databases, opened."""
        self.files._open()
        work(self.files)
        transaction.commit()
        self.files.close()

    def pack(self):
        """By somebody else, away from any backup; there is something to pack."""

        def work(files):
            for connection in files.connections.values():
                connection.root()["more"] = connection.root().get("more", 0) + 1
            transaction.commit()
            for storage in files.paths:
                files.pack(storage)

        self.change(work)

    def back_up(self):
        """The set of now: what it has of the storage with blobs."""
        return back_up(self.cluster).storage("a")


@pytest.fixture
def site(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch)


def restored(site, folder, **options):
    """{path: bytes} of the blobs that a restore of the newest set gives."""
    restore_elsewhere(site.cluster, Request(**options), folder)
    directory = folder / "a/blobs"
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path, _ in blob_files.blob_files(directory)
    }


def last_run(site):
    found = results.read(site.cluster, "backup")
    assert found is not None
    return found.last


def test_each_set_names_the_blob_and_keeps_its_copy(site, tmp_path, capsys):
    assert site.back_up().lost_blobs == ()
    whole = site.blobs()
    path, _ = site.lose()
    stored = site.back_up()
    assert (stored.kind, stored.lost_blobs, stored.missing_blobs) == (
        "unchanged",
        (path,),
        (),
    )
    assert last_run(site).status == 0
    assert path in last_run(site).warnings[0]
    site.commit("b")
    assert site.back_up().lost_blobs == (path,)
    site.pack()
    packed = site.back_up()
    assert (packed.kind, packed.lost_blobs, packed.missing_blobs) == (
        "full",
        (path,),
        (),
    )
    assert not prune(site.cluster, ONE).kept.keys() - {
        each.manifest.id for each in backup_directory(site.cluster).sets()
    }
    assert len(backup_directory(site.cluster).manifests()) == 1
    assert restored(site, tmp_path / "restored") == whole
    assert any(path in words for words in status.status(site.cluster).alarms)
    backups_verb.run(argparse.Namespace(json=True), site.cluster)
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["lost_blobs"], told["missing_blobs"]) == ({"a": [path]}, {})
    # Somebody puts it back.
    (site.folder / path).write_bytes(whole[path])
    assert site.back_up().lost_blobs == ()


def test_a_blob_that_nobody_has_is_named_by_set_and_restore(site, tmp_path, capsys):
    path, _ = site.lose()
    stored = site.back_up()
    assert (stored.lost_blobs, stored.missing_blobs) == ((), (path,))
    assert "no set has a copy" in last_run(site).warnings[0]
    site.commit("b")
    # What is known once is carried on, though the record is not copied again.
    assert site.back_up().missing_blobs == (path,)
    assert path not in restored(site, tmp_path / "restored")
    for depth in ("digests", "objects"):
        found = verify(site.cluster, VerifyRequest("latest", depth))
        assert [path in loss.what for loss in found.sets[0].losses] == [True]
        assert not found.is_good
    backups_verb.run(argparse.Namespace(json=False), site.cluster)
    assert "1, 1 WITHOUT A COPY" in capsys.readouterr().out
    planned = plan_elsewhere(site.cluster, Request(), tmp_path / "elsewhere")
    restore_verb.warn_of_lacks(preview(planned))
    assert path in capsys.readouterr().err
    site.pack()
    assert site.back_up().missing_blobs == (path,)


def test_a_blob_lost_before_its_first_backup_is_named_by_that(site):
    site.back_up()
    site.commit("a")
    path, _ = site.lose(-1)
    stored = site.back_up()
    assert (stored.kind, stored.missing_blobs) == ("incremental", (path,))


def test_what_the_data_need_no_more_is_not_missed(site):
    site.back_up()

    def forget_two(files):
        blobs = files.connections["a"].root()["blobs"]
        del blobs[next(iter(blobs))]
        blob = blobs[next(iter(blobs))]
        with blob.open("w") as stream:
            stream.write(b"another state of it")

    site.change(forget_two)
    assert site.back_up().lost_blobs == ()
    before = {*site.blobs()}
    site.change(lambda files: [files.pack(each) for each in files.paths])
    assert before - {*site.blobs()}
    site.commit("a")
    stored = site.back_up()
    assert (stored.kind, stored.lost_blobs, stored.missing_blobs) == ("full", (), ())
    assert stored.blob_count == len(site.blobs())


def test_the_blob_of_an_undone_change_is_missed_too(site):
    def change(files):
        blobs = files.connections["a"].root()["blobs"]
        with blobs[next(iter(blobs))].open("w") as stream:
            stream.write(b"another state of it")

    def undo(files):
        database = files.connections["a"].db()
        database.undo(database.undoLog(0, 1)[0]["id"])

    site.change(change)
    site.back_up()
    site.change(undo)
    site.back_up()
    path, _ = site.lose(-1)
    assert site.back_up().lost_blobs == (path,)


def forget_losses(site, **changes):
    """Make the newest set one of a version that did not look for lost blobs."""
    directory = backup_directory(site.cluster)
    made = directory.manifests()[0]
    changes = {"missing_blobs": None, "lost_blobs": (), **changes}
    storages = tuple(
        dataclasses.replace(each, **changes) if each.id == "a" else each
        for each in made.storages
    )
    made = dataclasses.replace(made, storages=storages)
    manifest.write(made, directory.set_folder(made.id))


def back_up_as_before(site, monkeypatch):
    """A backup by a version that did not look for lost blobs."""
    with monkeypatch.context() as patched:
        patched.setattr(NeededBlobs, "find_losses", lambda self: Losses())
        site.back_up()
    forget_losses(site)


def test_prune_asks_the_data_before_a_last_copy_goes(site, tmp_path, monkeypatch):
    first = back_up(site.cluster)
    whole = site.blobs()
    path, _ = site.lose()
    site.pack()
    back_up_as_before(site, monkeypatch)
    planned = plan(site.cluster, ONE)
    assert planned.removed == []
    assert path in planned.kept[first.id][0]
    prune(site.cluster, ONE)
    # A set that looks finds the copy, and then the old set may go.
    stored = site.back_up()
    assert (stored.kind, stored.lost_blobs) == ("unchanged", (path,))
    site.pack()
    assert site.back_up().lost_blobs == (path,)
    assert first.id not in prune(site.cluster, ONE).kept
    assert restored(site, tmp_path / "restored") == whole


def test_prune_keeps_what_another_set_says_it_misses(site, monkeypatch):
    first = back_up(site.cluster)
    path, _ = site.lose()
    site.pack()
    back_up_as_before(site, monkeypatch)
    forget_losses(site, missing_blobs=(path,))

    def forget(files):
        del files.connections["a"].root()["blobs"]

    # Who has only the present data does not need it any more.
    site.change(forget)
    site.change(lambda files: files.pack("a"))
    assert "last copy" in prune(site.cluster, ONE).kept[first.id][0]


def test_prune_keeps_what_nobody_can_judge(site, monkeypatch):
    first = back_up(site.cluster)
    site.lose()
    site.pack()
    back_up_as_before(site, monkeypatch)
    data_file = site.files.paths["a"]
    data_file.rename(data_file.with_name("away"))
    assert "nobody can tell" in prune(site.cluster, ONE).kept[first.id][0]


def test_a_blob_lost_between_a_restore_and_the_next_backup(site, tmp_path):
    site.back_up()
    whole = site.blobs()
    restore_in_place(site.cluster, Request())
    path, _ = site.lose()
    stored = site.back_up()
    assert (stored.kind, stored.lost_blobs) == ("unchanged", (path,))
    assert restored(site, tmp_path / "restored") == whole


def test_a_copy_that_has_rotted_is_none(site):
    stored = site.back_up()
    path, content = site.lose()
    pool = backup_directory(site.cluster).pool("a")
    listed = read_lists(site.cluster.backup.directory, stored.blob_lists).blobs
    (sha256,) = [blob.sha256 for blob in listed if blob.path == path]
    pool_path(pool, sha256).write_bytes(b"x" * len(content))
    site.pack()
    full = site.back_up()
    assert (full.lost_blobs, full.missing_blobs) == ((), (path,))


def test_a_copy_that_is_gone_is_none(site):
    stored = site.back_up()
    path, _ = site.lose()
    pool = backup_directory(site.cluster).pool("a")
    listed = read_lists(site.cluster.backup.directory, stored.blob_lists).blobs
    (sha256,) = [blob.sha256 for blob in listed if blob.path == path]
    pool_path(pool, sha256).unlink()
    again = site.back_up()
    assert (again.kind, again.missing_blobs) == ("full", (path,))


def test_a_blob_that_nobody_can_look_at_is_neither_there_nor_lost(site, monkeypatch):
    site.back_up()
    path, _ = site.lose()
    (site.folder / path).symlink_to(path.rpartition("/")[2])
    with pytest.raises(FileUnreadable, match=path):
        site.back_up()
    (site.folder / path).unlink()

    def refuse(directory, name):
        raise FileUnreadable(f"{directory / name}: EIO")

    monkeypatch.setattr(lost_blobs, "is_blob_there", refuse)
    with pytest.raises(FileUnreadable, match="EIO"):
        site.back_up()


def test_a_link_to_a_blob_that_is_gone_is_a_lost_blob(site, tmp_path):
    site.back_up()
    path, _ = site.lose()
    (site.folder / path).symlink_to(tmp_path / "gone")
    assert site.back_up().lost_blobs == (path,)


def test_a_storage_with_blobs_that_is_described_without_is_told(site):
    described = site.cluster
    storages = tuple(
        dataclasses.replace(each, blob_directory=None) for each in described.storages
    )
    site.cluster = dataclasses.replace(described, storages=storages)
    assert site.back_up().undescribed_blobs == 3
    assert "blobs = true" in last_run(site).warnings[0]
    site.commit("a")
    assert site.back_up().undescribed_blobs == 4
    assert "blobs = true" in last_run(site).warnings[0]
    site.cluster = described
    stored = site.back_up()
    assert (stored.undescribed_blobs, stored.blob_count) == (0, 4)
    assert not last_run(site).warnings


def test_a_blob_above_the_point_is_not_missed(site, monkeypatch):
    site.back_up()
    last = site.instant()

    def commit_more(files):
        files.connections["a"].root()["late"] = Blob(b"late")

    site.change(commit_more)
    site.lose(-1)
    monkeypatch.setattr("tidstorage.zeo.barrier.take_instant", lambda _storages: last)
    assert site.back_up().missing_blobs == ()


def test_blobs_behind_links_are_backed_up_and_restored_as_files(site, tmp_path):
    """A disk was full: a folder was moved to another one, and a single blob, too."""
    whole = site.blobs()
    first, *_, last = whole
    (site.folder / last).rename(tmp_path / "single")
    (site.folder / last).symlink_to(tmp_path / "single")
    folder = site.folder / first.split("/")[0]
    folder.rename(tmp_path / "another disk")
    folder.symlink_to(tmp_path / "another disk")
    stored = site.back_up()
    assert (stored.blob_count, stored.missing_blobs) == (len(whole), ())
    site.commit("a")
    assert site.back_up().blob_count == len(whole) + 1
    # To the first set, so that there is something to cut.
    first_set = backup_directory(site.cluster).set_ids()[-1]
    restore_in_place(site.cluster, Request(set_id=first_set, reuse=True))
    assert site.blobs() == whole
    assert not blob_files.find_links(site.folder)
    assert not any(path.is_symlink() for path in site.folder.rglob("*"))


def test_a_blob_that_was_cut_off_is_kept_as_it_was(site, tmp_path):
    """A disk was full, or the power failed: the file is there, and empty."""
    site.back_up()
    whole = site.blobs()
    path = next(iter(whole))
    (site.folder / path).chmod(0o600)
    (site.folder / path).write_bytes(b"")
    assert site.back_up().lost_blobs == (path,)
    site.pack()
    stored = site.back_up()
    assert (stored.kind, stored.lost_blobs) == ("full", (path,))
    prune(site.cluster, ONE)
    assert restored(site, tmp_path / "restored") == whole
    # What was never whole in any set is backed up as it is.
    site.commit("a")
    last = [*site.blobs()][-1]
    (site.folder / last).chmod(0o600)
    (site.folder / last).write_bytes(b"")
    stored = site.back_up()
    assert (stored.lost_blobs, stored.missing_blobs) == ((path,), ())
    assert stored.blob_count == len(site.blobs())
