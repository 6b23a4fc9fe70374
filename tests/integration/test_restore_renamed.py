"""Sets that a renaming, a lost disk or another folder separates from the cluster."""

import argparse
import dataclasses
import os

import pytest
import records

from tidstorage.commands import restore as verb
from tidstorage.errors import EngineFailed, NoSpace, NotCoherent, NotPermitted
from tidstorage.points import journal
from tidstorage.points.beside import point_path, read_point
from tidstorage.points.entries import Timeline
from tidstorage.system import clock, disks
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore import assemble
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_elsewhere,
    restore_in_place,
)
from tidstorage.verbs.restore.target import Target

pytestmark = pytest.mark.integration


def rename(cluster, **names):
    """The cluster with storages renamed: old=new."""
    return dataclasses.replace(
        cluster,
        storages=tuple(
            dataclasses.replace(each, id=names[each.id], aliases=(each.id,))
            if each.id in names
            else each
            for each in cluster.storages
        ),
    )


def run(cluster, *arguments):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args(arguments), cluster)


def test_a_set_of_before_a_renaming_is_restored_in_place(lost, capsys):
    cluster, made = lost
    now = rename(cluster, documents="papers", catalog="index")
    assert run(now, "--dry-run") == 0
    assert "storage documents of the set is papers now" in capsys.readouterr().out
    assert run(now) == 0
    assert "storage catalog of the set is index now" in capsys.readouterr().out
    papers = now.storage("papers")
    for storage in cluster.storages:
        held = records.read(storage.data_file)
        assert held[-1][0] == made.point.vector[storage.id]
    beside = read_point(point_path(papers.data_file))
    assert beside.vector == {
        "root": made.point.vector["root"],
        "papers": made.point.vector["documents"],
        "index": made.point.vector["catalog"],
    }
    restored = [*papers.blob_directory.rglob("*.blob")]
    assert len(restored) == made.storage("documents").blob_count > 0


def test_and_elsewhere_in_the_ids_of_now(lost, capsys, tmp_path):
    cluster, made = lost
    into = tmp_path / "elsewhere"
    assert run(rename(cluster, documents="papers"), "--into", str(into)) == 0
    said = capsys.readouterr().out
    assert "storage documents of the set is papers now" in said
    assert sorted(each.name for each in into.iterdir()) == ["catalog", "papers", "root"]
    held = records.read(into / "papers" / "Data.fs")
    assert held[-1][0] == made.point.vector["documents"]
    assert [*(into / "papers" / "blobs").rglob("*.blob")]


def test_half_commits_and_floors_are_renamed_too(small):
    cluster = small.cluster()
    small.write(1, 4)
    clean = back_up(cluster)
    small.write(2, 1, half=["catalog", "root"])
    small.write(3, 5, group=["catalog", "documents", "root"])
    made = back_up(cluster)
    assert made.point.damage
    small.stop()
    now = rename(cluster, catalog="index", root="top")
    restore_in_place(now, Request(policy="tolerant"))
    beside = read_point(point_path(now.storage("index").data_file))
    assert beside.vector["index"] == clean.point.vector["catalog"]
    assert "catalog" not in beside.vector
    restore_in_place(now, Request(set_id=made.id, policy="strict"))
    beside = read_point(point_path(now.storage("index").data_file))
    assert beside.vector["index"] == made.strict["catalog"]


def test_two_storages_that_would_be_one_are_refused(lost):
    cluster, _ = lost
    first, *others = cluster.storages
    twice = dataclasses.replace(first, aliases=("documents",))
    with pytest.raises(NotCoherent, match="the one storage catalog"):
        restore_in_place(
            dataclasses.replace(
                cluster, storages=(twice, *(s for s in others if s.id == "root"))
            ),
            Request(),
        )


def test_a_dry_run_is_of_what_into_would_do(lost, tmp_path, capsys, monkeypatch):
    cluster, made = lost
    into = tmp_path / "elsewhere"
    assert run(cluster, "--into", str(into), "--dry-run") == 0
    said = capsys.readouterr().out
    assert f"would be restored: set {made.id}, now point 1-" in said
    assert f"in {into}" in said
    assert not into.exists()
    # What is wrong with the cluster's own files is no obstacle.
    assert run(rename(cluster, root="other"), "--into", str(into), "--dry-run") == 0
    asked = []

    def disk_usage(path):
        asked.append(path)
        return argparse.Namespace(free=10)

    with monkeypatch.context() as patched:
        patched.setattr(disks.shutil, "disk_usage", disk_usage)
        with pytest.raises(NoSpace):
            run(cluster, "--into", str(into), "--dry-run")
    assert asked == [tmp_path]
    into.mkdir()
    assert run(cluster, "--into", str(into), "--dry-run") == 0
    (into / "file").touch()
    with pytest.raises(EngineFailed, match="not an empty folder"):
        run(cluster, "--into", str(into), "--dry-run")


def test_the_timeline_is_new_even_where_the_points_are_lost(lost):
    """Else the daemon goes on where the lost history ended."""
    cluster, made = lost
    restore_in_place(cluster, Request())
    for storage in cluster.storages:
        point_path(storage.data_file).unlink()
    writing = journal.Journal(cluster.daemon.journal)
    writing.append(Timeline(clock.now(), 7, made.point.vector, "a restore"))
    writing.close()
    assert restore_in_place(cluster, Request()).point.timeline == 8


def test_nor_is_it_one_of_another_set(small):
    cluster = small.cluster()
    small.write(1, 3)
    first = back_up(cluster)
    small.stop()
    restore_in_place(cluster, Request())
    small.start()
    assert back_up(cluster).point.timeline == 2
    small.stop()
    for storage in cluster.storages:
        point_path(storage.data_file).unlink()
    assert restore_in_place(cluster, Request(set_id=first.id)).point.timeline == 3


def test_what_a_failure_elsewhere_leaves_alone(lost, tmp_path, monkeypatch):
    cluster, _ = lost
    into = tmp_path / "elsewhere"

    def full(*arguments):
        (into / "of somebody").write_text("else")
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(assemble, "blob_directory", full)
    with pytest.raises(NoSpace):
        restore_elsewhere(cluster, Request(), into)
    assert [each.name for each in into.iterdir()] == ["of somebody"]


def test_blobs_kept_in_the_same_second_are_not_written_over(tmp_path):
    """Even where no Data.fs was kept then: it was the one that was lost."""
    blobs = tmp_path / "blobs"
    target = Target(tmp_path / "Data.fs", tmp_path / "Data.fs.index", blobs)
    assert not target.has_kept("20261124T220000Z")
    (tmp_path / "blobs.before-restore-20261124T220000Z").mkdir()
    assert target.has_kept("20261124T220000Z")


def test_what_a_killed_restore_left_is_room(lost, monkeypatch):
    cluster, _ = lost
    root = cluster.storage("root").data_file
    # Where the old file is there, it needs no room: it is only cut.
    root.unlink()
    with root.with_name(f"{root.name}.restoring").open("wb") as stream:
        stream.write(bytes(1 << 20))
        stream.flush()
        os.fsync(stream.fileno())
    monkeypatch.setattr(
        disks.shutil, "disk_usage", lambda path: argparse.Namespace(free=10)
    )
    assert run(cluster, "--dry-run") == 0
    root.with_name(f"{root.name}.restoring").unlink()
    with pytest.raises(NoSpace):
        run(cluster, "--dry-run")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_belongs_to_whom_the_old_files_did(lost):
    """Else their server, which runs as that user, cannot open them."""
    cluster, _ = lost
    documents = cluster.storage("documents")
    folder = documents.data_file.parent
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    documents.data_file.chmod(0o640)
    restore_in_place(cluster, Request())
    made = [documents.data_file, *documents.blob_directory.rglob("*")]
    made += [documents.blob_directory, point_path(documents.data_file)]
    assert {each.stat().st_uid for each in made} == {65534}
    assert documents.data_file.stat().st_mode & 0o777 == 0o640
    assert cluster.storage("root").data_file.stat().st_uid == 0


def test_files_of_another_user_are_refused_before_anything(lost, monkeypatch):
    cluster, _ = lost
    monkeypatch.setattr("tidstorage.verbs.restore.target.os.geteuid", lambda: 54321)
    with pytest.raises(NotPermitted, match="belong to another user"):
        run(cluster, "--dry-run")
    with pytest.raises(NotPermitted):
        run(cluster)
    assert not [*cluster.directory.rglob("*.restoring")]
