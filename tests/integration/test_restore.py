"""Restores with real servers, real writers and the real repozo."""

import argparse
import dataclasses

import pytest
import records
import ZODB
from backup_sets import backup_directory
from restored import check_restored, contents
from ZODB.FileStorage import FileStorage

from tidstorage.commands import restore as verb
from tidstorage.errors import (
    ClusterRunning,
    Damaged,
    EngineFailed,
    NoSpace,
    NoSuchSet,
    NotCoherent,
)
from tidstorage.operation.unfinished import interrupted_swap
from tidstorage.points.beside import point_path, read_point
from tidstorage.system import disks
from tidstorage.system.clock import local
from tidstorage.verbs.backup import copying
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore import assemble, check, cutting
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere, restore_in_place

pytestmark = pytest.mark.integration


def totals(cluster):
    """{storage id: {group: counter}} as the application reads it."""
    found = {}
    for storage in cluster.storages:
        database = ZODB.DB(FileStorage(str(storage.data_file), read_only=True))
        connection = database.open()
        root = connection.root()
        found[storage.id] = {name: root[name] for name in root if name.count("+")}
        connection.close()
        database.close()
    return found


def test_restores_the_point_of_a_set_taken_under_load(small):
    cluster = small.cluster(compress=True)
    with small.writer(2), small.writer(3):
        back_up(cluster)
        made = back_up(cluster)
    small.stop()
    zec = cluster.zopes[0].cache_directory / "root.zec"
    zec.parent.mkdir()
    zec.write_bytes(b"of the lost timeline")
    report = restore_in_place(cluster, Request())
    check_restored(cluster, made)
    counters = totals(cluster)
    for storage, groups in counters.items():
        for group, count in groups.items():
            assert {counters[each].get(group) for each in group.split("+")} == {
                count
            }, storage
    assert not zec.exists()
    assert interrupted_swap(cluster) is None
    for storage in cluster.storages:
        new = read_point(point_path(storage.data_file))
        assert (new.source, new.timeline) == ("restore", 2)
        assert new.vector == made.point.vector
        kept = storage.data_file.with_name(storage.data_file.name + report.kept)
        assert kept.stat().st_size >= report.sizes[storage.id][1]
        assert not list(storage.data_file.parent.glob("*.restoring*"))
    small.start()
    small.write(9, 4)
    again = back_up(cluster)
    assert again.point.timeline == 2
    assert again.floor.source == "restore"


def test_with_the_end_of_the_file_for_a_cut_the_files_are_torn(small, monkeypatch):
    """The copies reach beyond the point: what cuts them is `choose_cut`."""
    cluster = small.cluster()
    group = ["catalog", "documents", "root"]
    small.write(2, 3, group=group)
    really_open = copying._open_source

    def open_and_write(*arguments):
        """What the next copy has, and this one has not."""
        source = really_open(*arguments)
        small.write(3, 2, group=group)
        return source

    with monkeypatch.context() as patched:
        patched.setattr(copying, "_open_source", open_and_write)
        made = back_up(cluster)
    small.stop()
    monkeypatch.setattr(
        cutting,
        "choose_cut",
        lambda manifest, policy: dict.fromkeys(manifest.point.vector, (1 << 63) - 1),
    )
    before = contents(cluster)
    with pytest.raises(NotCoherent, match="do not fit together"):
        restore_in_place(cluster, Request())
    assert contents(cluster) == before
    monkeypatch.setattr(check, "check", lambda *arguments: None)
    restore_in_place(cluster, Request())
    content = {s.id: records.read(s.data_file) for s in cluster.storages}
    assert records.violations(content, {s: h[-1][0] for s, h in content.items()})
    assert made.point.vector != {s: h[-1][0] for s, h in content.items()}


def test_blobs_up_to_the_point_come_back(small, tmp_path):
    cluster = small.cluster()
    small.write(2, 12, group=["documents"])
    made = back_up(cluster)
    small.write(3, 6, group=["documents"])
    small.stop()
    documents = cluster.storage("documents")
    files = {
        p.relative_to(documents.blob_directory): p.read_bytes()
        for p in documents.blob_directory.rglob("*.blob")
    }
    restore_in_place(cluster, Request())
    restored = list(documents.blob_directory.rglob("*.blob"))
    assert len(restored) == made.storage("documents").blob_count
    assert 0 < len(restored) < len(files)
    for path in restored:
        assert path.read_bytes() == files[path.relative_to(documents.blob_directory)]
    storage = FileStorage(
        str(documents.data_file), blob_dir=str(documents.blob_directory)
    )
    database = ZODB.DB(storage)
    connection = database.open()
    with connection.root()["blob"].open() as stream:
        assert len(stream.read()) == 2000
    connection.close()
    database.close()


def test_refused_while_a_server_runs(small):
    cluster = small.cluster()
    small.write(1, 3)
    back_up(cluster)
    before = contents(cluster)
    with pytest.raises(ClusterRunning):
        restore_in_place(cluster, Request())
    assert contents(cluster) == before
    small.alpha.stop()
    before = contents(cluster)
    with pytest.raises(ClusterRunning):
        restore_in_place(cluster, Request())
    assert contents(cluster) == before


def test_refused_while_only_a_zope_runs(small, monkeypatch):
    cluster = small.cluster()
    small.write(1, 3)
    back_up(cluster)
    small.stop()
    monkeypatch.setattr(
        "tidstorage.processes.running.find_running", lambda cluster: ["Zope web-1"]
    )
    with pytest.raises(ClusterRunning, match="still running: Zope web-1"):
        restore_in_place(cluster, Request())


def test_nothing_to_restore(small):
    cluster = small.cluster()
    small.stop()
    with pytest.raises(NoSuchSet, match="no whole backup set"):
        restore_in_place(cluster, Request())
    with pytest.raises(NoSuchSet, match="no set 20200101T000000Z"):
        restore_in_place(cluster, Request(set_id="20200101T000000Z"))
    with pytest.raises(NoSuchSet, match="has the point 7-x"):
        restore_in_place(cluster, Request(point_id="7-x"))


def test_an_older_set_or_point_by_its_id(small):
    cluster = small.cluster()
    small.write(1, 4)
    old = back_up(cluster)
    small.write(2, 4)
    back_up(cluster)
    small.stop()
    restore_in_place(cluster, Request(set_id=old.id))
    check_restored(cluster, old)
    restore_in_place(cluster, Request(point_id=old.point.id))
    check_restored(cluster, old)
    timeline = read_point(point_path(cluster.storages[0].data_file)).timeline
    assert timeline == 3


@pytest.mark.parametrize("compress", [False, True])
def test_a_byte_that_rotted_is_found_and_changes_nothing(small, compress):
    cluster = small.cluster(compress=compress)
    small.write(1, 4)
    made = back_up(cluster)
    small.stop()
    path = cluster.backup.directory / made.storage("root").files[0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = contents(cluster)
    with pytest.raises(NotCoherent, match=r"root/.*(not what was written|damaged)"):
        restore_in_place(cluster, Request())
    assert contents(cluster) == before


def test_a_blob_that_is_gone_is_found_and_changes_nothing(small):
    cluster = small.cluster()
    small.write(2, 12, group=["documents"])
    back_up(cluster)
    small.stop()
    pool = backup_directory(cluster).pool("documents")
    next(pool.glob("??/*")).unlink()
    before = contents(cluster)
    with pytest.raises(NotCoherent, match=r"blob .* is missing"):
        restore_in_place(cluster, Request())
    assert contents(cluster) == before


def test_a_set_that_is_not_whole_is_passed_over_aloud(small, capsys, monkeypatch):
    cluster = small.cluster()
    small.write(1, 4)
    old = back_up(cluster)
    small.write(2, 4)
    new = back_up(cluster)
    small.stop()
    (cluster.backup.directory / new.storage("root").files[-1].path).unlink()
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    assert verb.run(parser.parse_args([]), cluster) == 0
    check_restored(cluster, old)
    assert f"set {new.id} is newer, but not whole" in capsys.readouterr().err
    assert verb.run(parser.parse_args(["--json"]), cluster) == 0
    assert f"set {new.id} is newer, but not whole" in capsys.readouterr().err
    with pytest.raises(NotCoherent, match="not whole"):
        restore_in_place(cluster, Request(set_id=new.id))


@pytest.fixture
def damaged(small):
    """(cluster, the clean set, the newer set with a half commit in it)."""
    cluster = small.cluster()
    small.write(1, 4)
    clean = back_up(cluster)
    small.write(2, 1, half=["catalog", "root"])
    small.write(3, 5, group=["catalog", "documents", "root"])
    made = back_up(cluster)
    small.stop()
    return cluster, clean, made


def test_half_commits_are_the_operators_choice(damaged):
    cluster, clean, made = damaged
    before = contents(cluster)
    for request in (Request(), Request(set_id=made.id)):
        with pytest.raises(Damaged) as caught:
            restore_in_place(cluster, request)
        said = str(caught.value)
        assert made.point.damage[0].commit_id.hex() in said
        assert f"--strict loses {made.strict_loss.transactions} transaction" in said
        assert f"--set {clean.id} loses all since" in said
        assert "--tolerant keeps everything" in said
    assert contents(cluster) == before


def test_strict_leaves_the_half_commit_out(damaged):
    cluster, _, made = damaged
    restore_in_place(cluster, Request(policy="strict"))
    content = {s.id: records.read(s.data_file) for s in cluster.storages}
    assert records.violations(content, {s: h[-1][0] for s, h in content.items()}) == []
    half = made.point.damage[0].commit_id
    held = {mark.commit_id for marks in content.values() for _, mark in marks if mark}
    assert half not in held
    beside = read_point(point_path(cluster.storages[0].data_file))
    assert beside.vector == made.strict


def test_tolerant_keeps_it_and_it_stays_known(damaged, small):
    cluster, clean, made = damaged
    restore_in_place(cluster, Request(policy="tolerant"))
    content = {s.id: records.read(s.data_file) for s in cluster.storages}
    half = made.point.damage[0]
    held = {mark.commit_id for _, mark in content["catalog"] if mark}
    assert half.commit_id in held
    beside = read_point(point_path(cluster.storages[0].data_file))
    assert beside.vector == clean.point.vector
    small.start()
    assert back_up(cluster).point.damage == (half,)


def test_restore_elsewhere_leaves_a_running_cluster_alone(small, tmp_path):
    cluster = small.cluster()
    small.write(1, 4)
    small.write(2, 8, group=["documents"])
    made = back_up(cluster)
    before = {s.data_file: s.data_file.stat().st_ino for s in cluster.storages}
    into = tmp_path / "elsewhere"
    restore_elsewhere(cluster, Request(), into)
    assert {s.data_file: s.data_file.stat().st_ino for s in cluster.storages} == before
    for storage in cluster.storages:
        assert (
            records.read(into / storage.id / "Data.fs")[-1][0]
            == (made.point.vector[storage.id])
        )
    assert list((into / "documents" / "blobs").rglob("*.blob"))
    with pytest.raises(EngineFailed, match="not an empty folder"):
        restore_elsewhere(cluster, Request(), into)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(EngineFailed, match="not an empty folder"):
        restore_elsewhere(cluster, Request(), file)


def test_no_space_changes_nothing(small, monkeypatch):
    cluster = small.cluster()
    small.write(1, 4)
    back_up(cluster)
    small.stop()
    before = contents(cluster)

    def full(*arguments):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(assemble, "blob_directory", full)
    with pytest.raises(NoSpace, match="No space left"):
        restore_in_place(cluster, Request())
    assert contents(cluster) == before
    monkeypatch.setattr(
        disks.shutil, "disk_usage", lambda path: argparse.Namespace(free=10)
    )
    with pytest.raises(NoSpace, match="has 10 bytes free"):
        restore_in_place(cluster, Request())
    with pytest.raises(NoSpace, match="has 10 bytes free"):
        restore_elsewhere(cluster, Request(), cluster.directory / "new")
    assert contents(cluster) == before


def test_blobs_that_would_have_no_place_are_no_small_matter(lost):
    cluster, _ = lost
    without = [dataclasses.replace(s, blob_directory=None) for s in cluster.storages]
    before = contents(cluster)
    with pytest.raises(NotCoherent, match="blobs of storage documents"):
        restore_in_place(dataclasses.replace(cluster, storages=(*without,)), Request())
    assert contents(cluster) == before


def test_dry_run_changes_nothing(lost, capsys):
    cluster, made = lost
    before = contents(cluster)
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    assert verb.run(parser.parse_args(["--dry-run"]), cluster) == 0
    said = capsys.readouterr().out
    assert f"would be restored: set {made.id}" in said
    assert f"the state of {local(made.point.time)}, " in said
    assert contents(cluster) == before


def test_a_set_of_other_storages_is_refused(lost):
    cluster, made = lost
    fewer = dataclasses.replace(cluster, storages=cluster.storages[:2])
    with pytest.raises(NotCoherent, match="has storages that the cluster has not"):
        restore_in_place(fewer, Request())
    retired = dataclasses.replace(fewer, retired=frozenset(["documents"]))
    restore_in_place(retired, Request())
    made_elsewhere = cluster.directory / "new.fs"
    other = dataclasses.replace(cluster.storages[0], id="new", data_file=made_elsewhere)
    more = dataclasses.replace(cluster, storages=(*cluster.storages, other))
    with pytest.raises(NotCoherent, match="has no storage new"):
        restore_in_place(more, Request())
    assert backup_directory(cluster).set(made.id).is_whole


def test_files_behind_links_stay_where_they_are(small, tmp_path):
    """The link is left alone; new and old file are on the disk it leads to."""
    small.stop()
    disk = tmp_path / "disk"
    disk.mkdir()
    link = small.alpha.data_file("catalog")
    link.rename(disk / "catalog.fs")
    link.symlink_to(disk / "catalog.fs")
    small.start()
    small.write(1, 4)
    cluster = small.cluster()
    made = back_up(cluster)
    small.write(2, 4)
    small.stop()
    report = restore_in_place(cluster, Request())
    assert link.is_symlink()
    assert (disk / f"catalog.fs{report.kept}").exists()
    check_restored(cluster, made)
    small.start()
    small.write(3, 4)
    assert back_up(cluster).floor.source == "restore"
