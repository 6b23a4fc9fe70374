"""Backups that fail or are killed: the last set stays good, the next one is."""

import contextlib
import errno
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys

import pytest
from backup_sets import backup_directory, repozo, whole_sets, with_backup
from real_processes import PATIENCE
from small_cluster import small_cluster

from tidstorage.errors import EngineFailed, NoSpace
from tidstorage.sets import begun
from tidstorage.system import child
from tidstorage.verbs.backup import complete, leftovers
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path):
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


@contextlib.contextmanager
def largest_file(size):
    """Every file that grows beyond ``size`` bytes fails, here and in children."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_no_space_leaves_the_last_set_good(small):
    cluster = small.cluster()
    good = back_up(cluster)
    small.write(8, 40)
    with largest_file(8192), pytest.raises(NoSpace, match="File too large"):
        back_up(cluster)
    assert [each.manifest for each in whole_sets(cluster)] == [good]
    made = back_up(cluster)
    assert [each.manifest for each in whole_sets(cluster)] == [made, good]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("a file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_last_set_good(small, small_disk):
    cluster = with_backup(small.cluster(), directory=small_disk / "backup")
    good = back_up(cluster)
    filler = small_disk / "filler"
    small.write(8, 40)
    size = shutil.disk_usage(small_disk).free
    for room in (0, 4096, 20480, 65536):
        filler.write_bytes(bytes(max(0, size - room)))
        with contextlib.suppress(NoSpace):
            made = back_up(cluster)
            assert whole_sets(cluster)[0].manifest == made
        assert whole_sets(cluster)[-1].manifest == good
        filler.unlink()
    back_up(cluster)
    for each in whole_sets(cluster):
        restore_elsewhere(
            cluster, Request(set_id=each.manifest.id), small.folder / each.manifest.id
        )


DIE_BEFORE_THE_RECORD = """
import os, pickle, sys
from tidstorage.verbs.backup import backup, writing
original = writing._record
def die_or_record(folder, *rest):
    if folder.name == "root":
        os._exit(9)
    original(folder, *rest)
writing._record = die_or_record
backup.back_up(pickle.load(sys.stdin.buffer))
"""


def test_killed_before_what_was_copied_was_noted(small, tmp_path):
    """repozo's next increment would be laid upon the one it does not know of."""
    cluster = small.cluster()
    back_up(cluster)
    small.write(2, 5, group=["root"])
    killed = subprocess.run(
        [sys.executable, "-c", DIE_BEFORE_THE_RECORD],
        input=pickle.dumps(cluster),
        env=child.environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert killed.returncode == 9
    small.write(3, 5, group=["root"])
    assert back_up(cluster).storage("root").kind == "incremental"
    small.stop()
    copy = tmp_path / "recovered.fs"
    folder = backup_directory(cluster).repository("root")
    repozo("-R", "-w", "-r", folder, "-o", copy)
    assert copy.read_bytes() == small.alpha.data_file("root").read_bytes()


@pytest.mark.parametrize("text", ["{", '{"version": 1, "existing": {"root": 7}}'])
def test_an_unreadable_record_of_a_killed_run_is_no_obstacle(small, caplog, text):
    cluster = small.cluster()
    good = back_up(cluster)
    folder = backup_directory(cluster).sets_folder / "20200101T000000Z"
    folder.mkdir()
    (folder / begun.FILE_NAME).write_text(text)
    pool = backup_directory(cluster).pool("documents")
    left = pool / "lists" / folder.name
    left.write_text("of the killed run")
    repozo_folder = backup_directory(cluster).repository("root")
    half = repozo_folder / "2020-01-01-00-00-01.deltafs"
    half.write_bytes(b"half")
    small.write(2, 3)
    made = back_up(cluster)
    assert made.kind == "full", "what the killed run left may be in the way"
    assert f"{folder / begun.FILE_NAME} is not the record of a set" in caplog.text
    assert not folder.exists()
    assert not left.exists()
    assert half.exists()
    small.write(3, 6, group=["catalog", "documents", "root"])
    assert back_up(cluster).kind == "incremental"
    assert [each.manifest for each in whole_sets(cluster)][1:] == [made, good]


def test_a_killed_run_knew_a_storage_that_is_no_more(small):
    cluster = small.cluster()
    back_up(cluster)
    folder = backup_directory(cluster).sets_folder / "20200101T000000Z"
    folder.mkdir()
    record = {"version": 1, "existing": {"removed": ["2020-01-01-00-00-01.fs"]}}
    (folder / begun.FILE_NAME).write_text(json.dumps(record))
    back_up(cluster)
    assert not folder.exists()


def test_a_run_killed_before_it_had_begun_leaves_nothing(small):
    cluster = small.cluster()
    good = back_up(cluster)
    sets_folder = backup_directory(cluster).sets_folder
    for name, held in (("20200101T000000Z", ".begun.json.7.new"), ("2020", None)):
        (sets_folder / name).mkdir()
        if held:
            (sets_folder / name / held).touch()
    kept = sets_folder / "of the operator"
    kept.mkdir()
    (kept / "notes").touch()
    made = back_up(cluster)
    assert {each.name for each in sets_folder.iterdir()} == {
        good.id,
        made.id,
        kept.name,
    }


def test_a_failure_is_said_where_nothing_can_be_removed(small, monkeypatch, caplog):
    """The disk became read-only: not what fails last is what went wrong."""
    cluster = small.cluster()
    good = back_up(cluster)
    small.write(2, 4)

    def fail(*_arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(complete, "write_manifest", fail)
        patched.setattr(leftovers, "remove_new_files", fail)
        with pytest.raises(EngineFailed, match="Read-only") as caught:
            back_up(cluster)
    assert "Earlier sets are as good as before" in caught.value.hint
    assert "what this backup has begun is left; the next one removes it" in caplog.text
    made = back_up(cluster)
    assert [each.manifest for each in whole_sets(cluster)] == [made, good]


def test_a_clock_that_went_back_is_named(small, monkeypatch):
    cluster = small.cluster()
    good = back_up(cluster)
    (backup_directory(cluster).sets_folder / good.id).rename(
        backup_directory(cluster).sets_folder / "29990101T000000Z"
    )
    monkeypatch.setattr("tidstorage.sets.repozo._CLOCK_TOLERANCE", 0.1)
    with pytest.raises(EngineFailed, match="there is a backup of 2999-01-01-00-00-00"):
        back_up(cluster)


def test_a_disk_that_became_read_only(small, small_disk):
    cluster = with_backup(small.cluster(), directory=small_disk / "backup")
    good = back_up(cluster)
    small.write(2, 4)
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    with pytest.raises(EngineFailed, match="Read-only file system") as caught:
        back_up(cluster)
    assert "Earlier sets are as good" in caught.value.hint
    subprocess.run([*remount[:2], "remount,rw", str(small_disk)], check=True)
    made = back_up(cluster)
    assert [each.manifest for each in whole_sets(cluster)] == [made, good]
