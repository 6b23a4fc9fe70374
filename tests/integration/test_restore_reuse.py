"""Restores that cut the present files where they lie, since they are good so far."""

import argparse
import json
import shutil

import dying
import pytest
import records
import ZODB
from ZODB.FileStorage import FileStorage

from tidstorage.coherence import point
from tidstorage.commands import restore as verb
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import index
from tidstorage.errors import FileUnreadable, NoSpace
from tidstorage.operation.unfinished import interrupted_swap, swap_journal
from tidstorage.points.beside import point_path, read_point
from tidstorage.system import clock, private_files
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore import assemble, rates, swap
from tidstorage.verbs.restore.outcome import Ended
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_in_place,
)

pytestmark = pytest.mark.integration
REUSE = Request(reuse=True)


@pytest.fixture
def lost(small):
    """(cluster, its set): stopped, with more committed after the set."""
    cluster = small.cluster(compress=True)
    small.write(1, 4)
    back_up(cluster)
    small.write(2, 6, group=["documents"])
    made = back_up(cluster)
    small.write(3, 5, group=["catalog", "documents", "root"])
    small.write(4, 6, group=["documents"])
    small.stop()
    return cluster, made


def bytes_of(cluster):
    return {each.id: each.data_file.read_bytes() for each in cluster.storages}


def inodes(paths):
    return {each: each.stat().st_ino for each in paths}


def blobs(cluster):
    return sorted(cluster.storage("documents").blob_directory.rglob("*.blob"))


def check_restored(cluster, made):
    content = {s.id: records.read(s.data_file) for s in cluster.storages}
    ends = {s: held[-1][0] for s, held in content.items()}
    assert ends == dict(made.point.vector)
    assert records.violations(content, ends) == []
    for storage in cluster.storages:
        beside = read_point(point_path(storage.data_file))
        assert (beside.source, beside.vector) == ("restore", made.point.vector)
        # Neither reaches beyond its file, nor has to be made anew by a scan.
        found = index._load(index.path_of(storage.data_file))
        assert found is None or found[1] <= storage.data_file.stat().st_size
        ZODB.DB(FileStorage(str(storage.data_file), read_only=True)).close()
    assert len(blobs(cluster)) == made.storage("documents").blob_count
    assert not [*cluster.directory.rglob("*.restoring*")]


def refuse(*arguments, **options):
    raise AssertionError("nothing was to be put together anew")


def test_a_tail_is_cut_without_a_copy(lost, monkeypatch):
    cluster, made = lost
    before = bytes_of(cluster)
    files = inodes(each.data_file for each in cluster.storages)
    of_blobs = inodes(blobs(cluster))
    monkeypatch.setattr(assemble, "data_file", refuse)
    monkeypatch.setattr(assemble, "_stage_blob", refuse)
    report = restore_in_place(cluster, REUSE)
    assert report.reused == {"catalog", "documents", "root"}
    check_restored(cluster, made)
    assert inodes(files) == files
    assert 0 < len(blobs(cluster)) < len(of_blobs)
    assert inodes(blobs(cluster)).items() <= of_blobs.items()
    for storage in cluster.storages:
        # Appended, what was cut off makes the file that was.
        dropped = storage.data_file.with_name(storage.data_file.name + report.dropped)
        again = storage.data_file.read_bytes() + dropped.read_bytes()
        assert again == before[storage.id]


def test_a_byte_that_rotted_in_a_present_file_is_not_kept(lost):
    cluster, made = lost
    path = cluster.storage("root").data_file
    content = bytearray(path.read_bytes())
    # In the first transaction's data, which no header tells of.
    content[200] ^= 1
    path.write_bytes(content)
    rotten = blobs(cluster)[0]
    rotten.chmod(0o600)
    rotten.write_bytes(b"?" * rotten.stat().st_size)
    report = restore_in_place(cluster, REUSE)
    assert report.reused == {"catalog", "documents"}
    check_restored(cluster, made)
    assert path.read_bytes()[200] == content[200] ^ 1
    assert b"?" * 100 not in rotten.read_bytes()


def test_files_that_are_gone_or_shorter_are_put_together_anew(lost):
    cluster, made = lost
    cluster.storage("root").data_file.unlink()
    path = cluster.storage("catalog").data_file
    filestorage.truncate(path, filestorage.last_tid(path) - 1)
    held = made.storage("catalog").ranges[-1].after
    filestorage.truncate(path, held or 1)
    report = restore_in_place(cluster, REUSE)
    assert report.reused == {"documents"}
    check_restored(cluster, made)


def test_a_file_that_was_packed_is_another_one(small):
    cluster = small.cluster()
    small.write(1, 9, group=["root"])
    small.write(2, 4)
    made = back_up(cluster)
    small.stop()
    for storage in cluster.storages:
        opened = ZODB.DB(FileStorage(str(storage.data_file)))
        opened.pack()
        opened.close()
    small.start()
    small.write(3, 30)
    small.stop()
    report = restore_in_place(cluster, REUSE)
    assert "root" not in report.reused
    check_restored(cluster, made)


def test_where_there_is_no_room_for_a_second_copy(small, monkeypatch):
    cluster = small.cluster()
    small.write(1, 20)
    made = back_up(cluster)
    small.write(3, 2)
    small.stop()
    tails = sum(
        each.data_file.stat().st_size - made.storage(each.id).size
        for each in cluster.storages
    )
    needed = sum(each.size for each in made.storages)
    assert tails < needed

    def usage(path):
        return argparse.Namespace(free=needed - 1)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    before = bytes_of(cluster)
    with pytest.raises(NoSpace, match=r"the restore, .*needs"):
        restore_in_place(cluster, Request())
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: argparse.Namespace(free=tails // 2)
    )
    with pytest.raises(NoSpace, match="what is cut off the files"):
        restore_in_place(cluster, REUSE)
    assert bytes_of(cluster) == before
    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert restore_in_place(cluster, REUSE).reused
    check_restored(cluster, made)


def test_behind_a_link_the_index_is_made_anew(small, tmp_path):
    small.stop()
    disk = tmp_path / "disk"
    disk.mkdir()
    link = small.alpha.data_file("catalog")
    link.rename(disk / "catalog.fs")
    link.symlink_to(disk / "catalog.fs")
    small.start()
    cluster = small.cluster()
    small.write(1, 4)
    made = back_up(cluster)
    small.write(2, 9)
    small.stop()
    assert index.path_of(link).exists()
    assert "catalog" in restore_in_place(cluster, REUSE).reused
    assert link.is_symlink() and not index.path_of(link).exists()
    check_restored(cluster, made)


def test_a_dry_run_tells_what_it_takes(lost, capsys):
    cluster, made = lost
    before = bytes_of(cluster)
    size = sum(each.size for each in made.storages)
    blob_bytes = sum(each.blob_bytes for each in made.storages)

    def told(*arguments):
        parser = argparse.ArgumentParser()
        verb.add_arguments(parser)
        assert verb.run(parser.parse_args(["--dry-run", *arguments]), cluster) == 0
        return capsys.readouterr().out

    copied = json.loads(told("--json", "--copy"))
    effort = copied["effort"]
    assert (effort["copied"], effort["compared"]) == (size + blob_bytes, 0)
    (room,) = effort["rooms"]
    assert room["needed"] == size + blob_bytes
    # By the last full backup, as long as no restore was measured.
    assert effort["estimated_seconds"] > 0
    reused = json.loads(told("--json"))
    assert reused["reused"] == ["catalog", "documents", "root"]
    assert reused["effort"]["compared"] == size + blob_bytes
    assert reused["effort"]["rooms"][0]["needed"] < room["needed"]
    said = told()
    assert "only to be cut" in said and "estimated from what was measured" in said
    assert bytes_of(cluster) == before
    restore_in_place(cluster, REUSE)
    assert json.loads((cluster.directory / rates.FILE_NAME).read_text())["compare_rate"]
    restore_in_place(cluster, Request())
    noted = json.loads((cluster.directory / rates.FILE_NAME).read_text())
    assert noted["copy_rate"] and noted["compare_rate"]


@pytest.mark.parametrize("odd", [0, 1])
def test_killed_at_every_change_the_next_run_mends(lost, tmp_path, odd):
    """Before the swap nothing is changed; from then on it has to be ended.

    Both tests together: every fifth change up to there, and every one in it.
    """
    cluster, made = lost
    pristine = tmp_path.with_name(f"{tmp_path.name}-pristine")
    shutil.copytree(cluster.directory, pristine, symlinks=True)
    before = bytes_of(cluster)
    # The one takes 10, 20, 30... up to the swap, the other 5, 15, 25...
    resumed, number, step = 0, -5 * odd, 10
    while True:
        number += step

        def restore(number=number):
            dying.die_at_change(number)
            restore_in_place(cluster, REUSE)

        status = dying.in_child(restore)
        if status == 0:
            break
        assert status == dying.DIED
        begun = interrupted_swap(cluster) is not None
        if begun and step > 2:
            # It began within this stride.
            number, step = number - step - odd, 2
        elif begun:
            resumed += 1
        elif not resumed:
            assert bytes_of(cluster) == before
        assert isinstance(restore_in_place(cluster, REUSE), Ended) == begun
        check_restored(cluster, made)
        shutil.rmtree(cluster.directory)
        shutil.copytree(pristine, cluster.directory, symlinks=True)
    check_restored(cluster, made)
    assert resumed > 10


def test_a_cut_in_a_journal_needs_its_tid(lost):
    """Without one it would drop everything."""
    cluster, _ = lost
    path = swap_journal(cluster)
    private_files.make_folder(path.parent)
    new = point.Point({}, clock.now(), "restore")
    data_file = cluster.storages[0].data_file
    for last in ("", "0x", "5"):
        action = swap.Action("cut", str(data_file), f"{data_file}.dropped", last)
        swap.write(swap.Swap(1, "set", [action], new, [data_file]), path)
        with pytest.raises(FileUnreadable, match="is no TID"):
            restore_in_place(cluster, REUSE)
