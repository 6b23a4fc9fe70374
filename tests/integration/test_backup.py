"""Backups with real servers, real writers and the real repozo."""

import argparse
import contextlib
import dataclasses
import errno
import itertools
import json
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys

import pytest
import records
from small_cluster import small_cluster
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData

from tidstorage import (
    barrier,
    child,
    deploy,
    journal,
    lock,
    manifest,
    point,
    status,
)
from tidstorage.backup import (
    blobs,
    complete,
    copying,
    examine,
    layout,
    prepare,
    repository,
    sets,
)
from tidstorage.backup import directory as backup_directory
from tidstorage.backup.moved import SourceMoved
from tidstorage.backup.perform import back_up
from tidstorage.commands import backup, backups
from tidstorage.errors import (
    BackupDirectoryLost,
    BarrierFailed,
    ClusterRunning,
    EngineFailed,
    FileUnreadable,
    FloorNeeded,
    Locked,
    NoSpace,
    NotCoherent,
    NotConnected,
)
from tidstorage.restore import perform
from tidstorage.restore.plan import Request
from tidstorage.verify.perform import Request as Verification
from tidstorage.verify.perform import verify

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path):
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


def repozo(*arguments):
    """Stock repozo."""
    return subprocess.run(
        [*child.python("ZODB.scripts.repozo"), *map(str, arguments)],
        env=child.environment(),
        capture_output=True,
        text=True,
        check=True,
    )


def whole_sets(cluster):
    return [each for each in sets.every(cluster.backup.directory) if each.is_whole]


def test_a_set_taken_under_load_holds_what_its_point_covers(small, tmp_path):
    cluster = small.cluster()
    with small.writer(2), small.writer(3):
        made = [back_up(cluster) for _ in range(2)]
    small.stop()
    assert [each.kind for each in made] == ["full", "incremental"]
    last = made[1]
    assert last.point.source == "barrier"
    assert last.strict == last.point.vector
    assert not last.point.damage
    content = {}
    for storage in cluster.storages:
        copy = tmp_path / f"{storage.id}.fs"
        folder = layout.repository(cluster.backup.directory, storage.id)
        repozo("-R", "-r", folder, "-o", copy)
        assert copy.stat().st_size == last.storage(storage.id).size
        content[storage.id] = records.read(copy)
        assert last.point.vector[storage.id] in [tid for tid, _ in content[storage.id]]
    assert records.violations(content, last.point.vector) == []
    assert made[1].floor == made[0].point
    beside = point.beside(cluster.storages[0].data_file)
    assert point.read(beside) == made[1].point
    assert [each.manifest for each in whole_sets(cluster)] == made[::-1]
    for stored in last.storages:
        tids = [tid for tid, _ in records.read(tmp_path / f"{stored.id}.fs")]
        assert [each.start for each in stored.ranges] == [
            0,
            *(each.end for each in stored.ranges[:-1]),
        ]
        assert stored.ranges[-1].end == stored.size
        assert (stored.ranges[0].after, stored.ranges[-1].last) == (0, tids[-1])
        assert len(stored.ranges) == len(stored.files)
        assert all(
            before.last == after.after
            for before, after in itertools.pairwise(stored.ranges)
        )
        first = made[0].storage(stored.id).ranges
        assert stored.ranges[: len(first)] == first
        assert first[-1].last in tids


def test_only_the_owner_may_read_it(small):
    cluster = small.cluster(compress=True)
    small.folder.joinpath("tidlog").write_text("1.00 f {}\n")
    made = back_up(cluster)
    assert made.tid_log is not None
    for path in [cluster.backup.directory, *cluster.backup.directory.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert {
        each.path.rpartition(".")[2] for s in made.storages for each in s.files
    } == {"fsz"}


def test_nothing_new_makes_a_set_of_the_same_files(small):
    cluster = small.cluster()
    first, second = back_up(cluster), back_up(cluster)
    assert second.kind == "unchanged"
    assert [each.files for each in second.storages] == [
        each.files for each in first.storages
    ]


def test_blobs_are_copied_once_and_up_to_the_point(small):
    cluster = small.cluster()
    directory = cluster.backup.directory
    small.write(2, 8)
    first = back_up(cluster).storage("documents")
    small.write(3, 8)
    second = back_up(cluster).storage("documents")
    assert 0 < first.blob_count < second.blob_count
    assert second.blob_lists[:-1] == first.blob_lists
    held = blobs.read_lists(directory, second.blob_lists)
    assert held.layout == "bushy"
    live = small.beta.blob_directory("documents")
    for each in held.blobs:
        stored = blobs.pool_path(layout.pool(directory, "documents"), each.sha256)
        assert stored.read_bytes() == (live / each.path).read_bytes()
        # A copy: what happens to the original does not happen to it.
        assert stored.stat().st_ino != (live / each.path).stat().st_ino
    late = live / "0x00/0x00/0x00/0x00/0x00/0x00/0x00/0xff"
    late.mkdir(parents=True)
    (late / "0x7fffffffffffffff.blob").write_bytes(b"not covered by any point")
    assert back_up(cluster).storage("documents").blob_count == second.blob_count


def test_server_down_is_a_clear_error_and_the_last_set_stays_good(small):
    cluster = small.cluster()
    good = back_up(cluster)
    small.beta.kill()
    before = sorted(cluster.backup.directory.rglob("*"))
    with pytest.raises(NotConnected, match=r"ZEO server beta at .* does not answer"):
        back_up(cluster)
    assert sorted(cluster.backup.directory.rglob("*")) == before
    assert [each.manifest for each in whole_sets(cluster)] == [good]


def test_a_missing_data_file_is_named(small):
    cluster = small.cluster()
    moved = dataclasses.replace(
        cluster.storages[0], data_file=small.folder / "nowhere.fs"
    )
    cluster = dataclasses.replace(cluster, storages=(moved, *cluster.storages[1:]))
    with pytest.raises(FileUnreadable, match=r"storage catalog: .*nowhere\.fs"):
        back_up(cluster)


def test_two_at_once_are_refused(small):
    cluster = small.cluster()
    with lock.hold(cluster, "pack"), pytest.raises(Locked, match=r"pack \(process"):
        back_up(cluster)


def test_a_half_commit_is_named_and_never_becomes_the_floor(small):
    cluster = small.cluster()
    clean = back_up(cluster)
    small.write(4, 1, half=["catalog", "root"])
    small.write(5, 4)
    made = back_up(cluster)
    (half,) = made.point.damage
    assert (set(half.present), half.missing) == ({"catalog"}, ("root",))
    assert made.strict["catalog"] < half.present["catalog"]
    assert made.strict_loss.transactions >= 1
    assert made.floor == clean.point
    assert point.read(point.beside(cluster.storages[0].data_file)) == clean.point
    # Not even by the next backup, which finds nothing new.
    assert back_up(cluster).point.damage == (half,)


def noted(cluster):
    return [
        (type(entry), entry.half_commit.commit_id)
        for entry in journal.read_if_any(cluster.daemon.journal)
        if isinstance(entry, journal.Damage)
    ]


def test_the_journal_learns_of_half_commits_once(small):
    """Also of one that only the barrier proves, without any daemon."""
    cluster = small.cluster()
    small.write(4, 1, half=["catalog", "root"])
    made = back_up(cluster)
    (half,) = made.point.damage
    assert noted(cluster) == [(journal.Damage, half.commit_id)]
    (entry,) = journal.read(cluster.daemon.journal)
    assert (entry.half_commit, made.id in entry.proof) == (half, True)
    assert back_up(cluster).point.damage == (half,)
    assert len(noted(cluster)) == 1
    accepted = journal.Acknowledgement(point.now(), half.commit_id, "somebody")
    journal.append(cluster.daemon.journal, accepted)
    last = back_up(cluster)
    assert (last.point.damage, last.acknowledged) == ((), (half.commit_id,))
    assert point.read(point.beside(cluster.storages[0].data_file)) == last.point
    perform.elsewhere(cluster, Request(), small.folder / "restored")


def test_a_broken_journal_is_no_reason_to_go_without_a_backup(small, caplog):
    cluster = small.cluster()
    small.write(4, 1, half=["catalog", "root"])
    cluster.daemon.journal.write_text("{broken\n")
    made = back_up(cluster)
    assert len(made.point.damage) == 1
    assert "accepted count as damage" in caplog.text
    assert made.point.damage[0].commit_id.hex() in cluster.daemon.journal.read_text()


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


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
        perform.elsewhere(cluster, Request(), into)


@pytest.mark.parametrize("compress", [False, True])
def test_what_rotted_before_any_manifest_named_it_is_copied_anew(
    small, caplog, compress
):
    """Files of plain repozo: it has noted the digest of what it read."""
    cluster = small.cluster(compress=compress)
    for storage in cluster.storages:
        folder = layout.repository(cluster.backup.directory, storage.id)
        layout.make_folder(folder)
        options = ["-z"] if compress else []
        repozo("-B", *options, "-r", folder, "-f", storage.data_file)
    (rotten,) = layout.repository(cluster.backup.directory, "root").glob("*.fs*")
    flip_a_byte(rotten)
    small.write(2, 6, group=["catalog", "documents", "root"])
    made = back_up(cluster)
    assert made.kind == "full"
    assert f"{rotten} is not what repozo wrote" in caplog.text
    perform.elsewhere(cluster, Request(), small.folder / "restored")


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
    perform.elsewhere(cluster, Request(), small.folder / "restored")


@pytest.fixture
def no_barrier(monkeypatch):
    def fail(*_arguments, **_options):
        raise BarrierFailed("no barrier in 5 attempts")

    monkeypatch.setattr(barrier, "take", fail)


def test_without_a_barrier_the_stamps_decide(small, no_barrier):
    cluster = small.cluster()
    with small.writer(2):
        made = back_up(cluster)
    small.stop()
    assert made.point.source == "stamps"
    content = {
        storage.id: records.read(storage.data_file) for storage in cluster.storages
    }
    assert records.violations(content, made.point.vector) == []
    assert all(made.point.vector.values())


def test_without_barrier_and_floor_a_packed_file_is_refused(small, no_barrier):
    pack(small)
    with pytest.raises(FloorNeeded, match="catalog"):
        back_up(small.cluster())
    assert whole_sets(small.cluster()) == []


def pack(small):
    small.write(7, 6, group=["catalog"])
    client = ClientStorage(small.alpha.address, storage="catalog")
    client.pack(wait=True)
    client.close()


def test_a_pack_amid_the_copy_makes_it_begin_anew(small, monkeypatch):
    cluster = small.cluster()
    back_up(cluster)
    real, packed = copying._copy_one, []

    def pack_first(cluster, source, *rest):
        if source.storage.id == "catalog" and not packed:
            packed.append(source)
            pack(small)
        return real(cluster, source, *rest)

    monkeypatch.setattr(copying, "_copy_one", pack_first)
    made = back_up(cluster)
    assert packed
    assert made.kind == "full"
    folder = layout.repository(cluster.backup.directory, "catalog")
    files = {each.path.rpartition("/")[2] for each in made.storage("catalog").files}
    (first,) = set(repository.data_files(folder)) - files
    assert first < min(files), "the copy of two files' bytes is still there"


def test_a_file_replaced_amid_the_copy_is_copied_anew(small, monkeypatch):
    """By whatever: what is examined may be another file than what was copied."""
    cluster = small.cluster()
    back_up(cluster)
    small.write(2, 5, group=["catalog"])
    real, replaced = copying._copy_one, []

    def copy_and_replace(cluster, source, *rest):
        copied = real(cluster, source, *rest)
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
        raise SourceMoved("catalog was replaced")

    monkeypatch.setattr(examine, "examine", moved)
    files = sorted(cluster.backup.directory.rglob("*"))
    with pytest.raises(EngineFailed, match=r"3 attempts .* catalog was replaced"):
        back_up(cluster)
    assert sorted(cluster.backup.directory.rglob("*")) == files
    assert [each.manifest for each in whole_sets(cluster)] == [good]


def with_backup(cluster, **changes):
    backup = dataclasses.replace(cluster.backup, **changes)
    return dataclasses.replace(cluster, backup=backup)


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
        perform.elsewhere(
            cluster, Request(set_id=each.manifest.id), small.folder / each.manifest.id
        )


DIE_BEFORE_THE_RECORD = """
import os, pickle, sys
from tidstorage.backup import perform, writing
original = writing._record
def die_or_record(folder, *rest):
    if folder.name == "root":
        os._exit(9)
    original(folder, *rest)
writing._record = die_or_record
perform.back_up(pickle.load(sys.stdin.buffer))
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
        timeout=60,
        check=False,
    )
    assert killed.returncode == 9
    small.write(3, 5, group=["root"])
    assert back_up(cluster).storage("root").kind == "incremental"
    small.stop()
    copy = tmp_path / "recovered.fs"
    folder = layout.repository(cluster.backup.directory, "root")
    repozo("-R", "-w", "-r", folder, "-o", copy)
    assert copy.read_bytes() == small.alpha.data_file("root").read_bytes()


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
    (layout.sets(directory) / made.id / manifest.FILE_NAME).write_text("{")
    backups.run(argparse.Namespace(json=True), cluster)
    output = capsys.readouterr()
    assert '"whole": false' in output.out
    assert made.id in output.err


def test_after_a_broken_manifest_nothing_is_removed_and_copies_begin_anew(small):
    cluster = small.cluster()
    first = back_up(cluster)
    directory = cluster.backup.directory
    (layout.sets(directory) / first.id / manifest.FILE_NAME).write_text("{")
    small.write(2, 3)
    assert back_up(cluster).kind == "full"
    for stored in first.files():
        assert (directory / stored.path).stat().st_size == stored.size
    # Not for ever: what came after it is sound.
    small.write(3, 6, group=["catalog", "documents", "root"])
    assert back_up(cluster).kind == "incremental"
    folder = layout.sets(directory) / "20200101T000000Z"
    folder.mkdir()
    begun = {"version": 1, "existing": {"root": []}}
    (folder / layout.BEGUN).write_text(json.dumps(begun))
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
    assert not verify(cluster, Verification("latest", "digests")).is_good
    small.write(4, 3)
    assert back_up(cluster).kind == "full"


def test_a_renamed_storage_makes_no_half_commits(small):
    """The point beside is of before; what it covers is not examined again."""
    small.write(2, 6, group=["catalog", "documents", "root"])
    cluster = small.cluster()
    made = back_up(cluster)
    vector = dict(made.point.vector)
    vector["of old"] = vector.pop("documents")
    before = dataclasses.replace(made.point, vector=vector)
    point.write_beside(before, [each.data_file for each in cluster.storages])
    renamed = [
        dataclasses.replace(each, aliases=("of old",) * (each.id == "documents"))
        for each in cluster.storages
    ]
    cluster = dataclasses.replace(cluster, storages=(*renamed,))
    small.write(3, 6, group=["catalog", "documents", "root"])
    again = back_up(cluster)
    assert again.floor == before
    assert again.point.damage == ()
    small.stop()
    perform.in_place(cluster, Request(policy="strict"))


def test_sets_that_nobody_can_read_are_not_said_to_be_none(small):
    cluster = small.cluster()
    folder = layout.sets(cluster.backup.directory)
    layout.make_folder(folder.parent)
    folder.touch()
    with pytest.raises(EngineFailed, match="cannot be read"):
        backups.run(argparse.Namespace(json=False), cluster)


def test_files_of_plain_repozo_in_the_repository_are_continued(small):
    cluster = small.cluster()
    for storage in cluster.storages:
        folder = layout.repository(cluster.backup.directory, storage.id)
        layout.make_folder(folder)
        repozo("-B", "-r", folder, "-f", storage.data_file)
    small.write(2, 10, group=["catalog", "documents", "root"])
    made = back_up(cluster)
    assert made.kind == "incremental"
    assert [len(each.files) for each in made.storages] == [2, 2, 2]


def test_stamps_of_a_lost_timeline_are_not_covered(small, caplog):
    """What a Zope commits that was left running over a restore."""
    cluster = small.cluster()
    small.write(2, 4)
    late = {"catalog": (1 << 63) - 1}
    odd = {"storage": "root", "participants": ["root"], "known": late}
    small.write(3, 4, odd=odd, group=["root"])
    made = back_up(cluster)
    assert "storage root holds transactions that saw what is not there" in caplog.text
    small.stop()
    held = records.read(small.alpha.data_file("root"))
    assert made.point.vector["root"] == held[-6][0]
    assert not made.point.verified
    assert not point.beside(cluster.storages[0].data_file).exists()


def test_an_unknown_storage_in_a_stamp_is_named_and_no_obstacle(small, caplog):
    cluster = small.cluster()
    odd = {"storage": "root", "participants": ["root", "gone"], "known": {"gone": 7}}
    small.write(3, 1, odd=odd)
    made = back_up(cluster)
    assert "gone" in caplog.text
    assert not made.point.damage
    small.stop()
    for storage in cluster.storages:
        assert made.point.vector[storage.id] == records.read(storage.data_file)[-1][0]


def test_after_a_server_died_amid_a_vote(small):
    """It then reports the TID of a record that it has cut off; see test_barrier."""
    cluster = small.cluster()
    first = back_up(cluster)
    client = ClientStorage(small.beta.address, storage="documents")
    metadata = TransactionMetaData()
    client.tpc_begin(metadata)
    client.tpc_vote(metadata)
    small.beta.kill()
    small.beta.start()
    client.close()
    small.write(3, 4, group=["root"])
    made = back_up(cluster)
    assert made.point.vector["documents"] > first.point.vector["documents"]
    assert made.point.verified
    assert made.strict == made.point.vector
    perform.elsewhere(cluster, Request(), small.folder / "restored")
    assert back_up(cluster).kind == "unchanged"


def test_commands_around_a_backup(small):
    cluster = with_backup(
        small.cluster(),
        pre_command="echo pre >> said",
        post_command="echo post >> said",
    )
    back_up(cluster)
    assert (cluster.directory / "said").read_text() == "pre\npost\n"
    failing = with_backup(cluster, pre_command="exit 3")
    with pytest.raises(EngineFailed, match="pre-command 'exit 3' ended with status 3"):
        back_up(failing)
    assert len(whole_sets(cluster)) == 1


def test_the_set_stands_where_its_point_cannot_be_kept(small, monkeypatch):
    cluster = small.cluster()

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(point, "write_beside", full)
    with pytest.raises(EngineFailed, match="is whole, but its point"):
        back_up(cluster)
    assert len(whole_sets(cluster)) == 1


def describe(small, path):
    """The cluster as a cluster.toml."""
    backup = f'[backup]\ndirectory = "{small.folder}/backup"\n'
    path.write_text(f"{backup}schedule = '5 4 * * *'\n{small.description()}")


def tidstorage_repozo(*arguments):
    """The script cron calls, as a process."""
    return subprocess.run(
        [*child.python("tidstorage.commands.repozo"), *map(str, arguments)],
        env=child.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_script_for_cron_is_quiet_unless_something_is_wrong(small, tmp_path):
    description = tmp_path / "cluster.toml"
    describe(small, description)
    quiet = tidstorage_repozo("--cluster-file", description)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    small.write(2, 4)
    said = tidstorage_repozo("--cluster-file", description, "--verbose").stdout
    assert "incremental, point 1-" in said
    into = tmp_path / "into"
    recovered = tidstorage_repozo("--cluster-file", description, "-R", "--into", into)
    assert (recovered.returncode, recovered.stdout, recovered.stderr) == (0, "", "")
    assert (into / "documents" / "Data.fs").exists()
    running = tidstorage_repozo("--cluster-file", description, "--recover")
    assert running.returncode == ClusterRunning.exit_status
    assert "error: still running" in running.stderr
    small.beta.kill()
    down = tidstorage_repozo("--cluster-file", description)
    assert down.returncode == NotConnected.exit_status
    assert down.stderr.startswith("error: ZEO server beta")
    assert "hint: " in down.stderr
    assert down.stdout == ""


class TestTheBackupDirectory:
    """Where a disk is not mounted there is an empty folder, or none."""

    def used(self, small, tmp_path):
        """A cluster that has backed up to a folder of a disk."""
        disk = tmp_path / "disk"
        disk.mkdir()
        cluster = with_backup(small.cluster(), directory=disk / "backup")
        back_up(cluster)
        return cluster, disk

    def refused(self, cluster, match):
        into = cluster.directory / "into"
        for verb in (
            lambda: back_up(cluster),
            lambda: backups.run(argparse.Namespace(json=False), cluster),
            lambda: backup.run(argparse.Namespace(dry_run=True, json=True), cluster),
            lambda: perform.elsewhere(cluster, Request(), into),
            lambda: perform.rehearse(cluster, Request()),
        ):
            with pytest.raises(BackupDirectoryLost, match=match) as caught:
                verb()
            assert "Is its disk mounted?" in caught.value.hint
        assert not into.exists()
        assert re.search(match, status.status(cluster).no_sets)

    def test_gone_or_empty_is_refused_and_stays_so(self, small, tmp_path):
        cluster, disk = self.used(small, tmp_path)
        disk.rename(tmp_path / "unmounted")
        disk.mkdir()
        self.refused(cluster, "now it is not there")
        deploy.make_directories(cluster)
        assert list(disk.iterdir()) == []
        cluster.backup.directory.mkdir()
        self.refused(cluster, "now it holds no tidstorage-backup.json")
        deploy.make_directories(cluster)
        assert list(cluster.backup.directory.iterdir()) == []
        cluster.backup.directory.rmdir()
        disk.rmdir()
        (tmp_path / "unmounted").rename(disk)
        assert back_up(cluster).kind == "unchanged"

    def test_the_hint_tells_how_to_begin_anew(self, small, tmp_path):
        cluster, disk = self.used(small, tmp_path)
        shutil.rmtree(disk)
        with pytest.raises(BackupDirectoryLost) as caught:
            back_up(cluster)
        note = backup_directory.note_path(cluster)
        assert str(note) in caught.value.hint
        note.unlink()
        assert back_up(cluster).kind == "full"

    def test_another_directory_in_its_place_is_refused(self, small, tmp_path):
        """As where backups went before a disk was mounted over them."""
        cluster, disk = self.used(small, tmp_path)
        note = backup_directory.note_path(cluster)
        held = note.read_text()
        shutil.rmtree(disk)
        note.unlink()
        back_up(cluster)
        note.write_text(held)
        self.refused(cluster, "of another one")

    def test_of_before_there_were_markers_is_adopted(self, small, tmp_path):
        cluster, _ = self.used(small, tmp_path)
        (cluster.backup.directory / layout.MARKER).unlink()
        backup_directory.note_path(cluster).unlink()
        assert back_up(cluster).kind == "unchanged"
        shutil.rmtree(cluster.backup.directory)
        self.refused(cluster, "is not there")

    def test_of_another_cluster_is_refused(self, small, tmp_path):
        """Its storages may have the same ids, and a restore would take its sets."""
        cluster, _ = self.used(small, tmp_path)
        backup_directory.note_path(cluster).unlink()
        other = dataclasses.replace(cluster, name="other")
        with pytest.raises(BackupDirectoryLost, match="backups of cluster small"):
            back_up(other)
        assert back_up(cluster).kind == "unchanged"

    def test_a_note_that_nobody_can_read_is_no_leave_to_begin_anew(
        self, small, tmp_path
    ):
        cluster, disk = self.used(small, tmp_path)
        shutil.rmtree(disk)
        backup_directory.note_path(cluster).write_text('{"version": 1')
        with pytest.raises(FileUnreadable, match="is not a note of the backup"):
            back_up(cluster)
        deploy.make_directories(cluster)
        assert not disk.exists()


@pytest.mark.parametrize("text", ["{", '{"version": 1, "existing": {"root": 7}}'])
def test_an_unreadable_record_of_a_killed_run_is_no_obstacle(small, caplog, text):
    cluster = small.cluster()
    good = back_up(cluster)
    folder = layout.sets(cluster.backup.directory) / "20200101T000000Z"
    folder.mkdir()
    (folder / layout.BEGUN).write_text(text)
    pool = layout.pool(cluster.backup.directory, "documents")
    left = pool / "lists" / folder.name
    left.write_text("of the killed run")
    repozo_folder = layout.repository(cluster.backup.directory, "root")
    half = repozo_folder / "2020-01-01-00-00-01.deltafs"
    half.write_bytes(b"half")
    small.write(2, 3)
    made = back_up(cluster)
    assert made.kind == "full", "what the killed run left may be in the way"
    assert f"{folder / layout.BEGUN} is not the record of a set" in caplog.text
    assert not folder.exists()
    assert not left.exists()
    assert half.exists()
    small.write(3, 6, group=["catalog", "documents", "root"])
    assert back_up(cluster).kind == "incremental"
    assert [each.manifest for each in whole_sets(cluster)][1:] == [made, good]


def test_a_killed_run_knew_a_storage_that_is_no_more(small):
    cluster = small.cluster()
    back_up(cluster)
    folder = layout.sets(cluster.backup.directory) / "20200101T000000Z"
    folder.mkdir()
    begun = {"version": 1, "existing": {"removed": ["2020-01-01-00-00-01.fs"]}}
    (folder / layout.BEGUN).write_text(json.dumps(begun))
    back_up(cluster)
    assert not folder.exists()


def test_a_run_killed_before_it_had_begun_leaves_nothing(small):
    cluster = small.cluster()
    good = back_up(cluster)
    sets_folder = layout.sets(cluster.backup.directory)
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
        patched.setattr(complete, "complete", fail)
        patched.setattr(prepare, "discard_files", fail)
        with pytest.raises(EngineFailed, match="Read-only") as caught:
            back_up(cluster)
    assert "Earlier sets are as good as before" in caught.value.hint
    assert "the next backup removes what this one had begun" in caplog.text
    made = back_up(cluster)
    assert [each.manifest for each in whole_sets(cluster)] == [made, good]


def test_a_clock_that_went_back_is_named(small, monkeypatch):
    cluster = small.cluster()
    good = back_up(cluster)
    (layout.sets(cluster.backup.directory) / good.id).rename(
        layout.sets(cluster.backup.directory) / "29990101T000000Z"
    )
    monkeypatch.setattr(prepare, "_CLOCK_TOLERANCE", 0.1)
    with pytest.raises(EngineFailed, match="there is a backup of 29990101T000000Z"):
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


def test_blobs_whose_disk_is_not_mounted_are_no_empty_set_of_blobs(small, tmp_path):
    cluster = small.cluster()
    good = back_up(cluster)
    folder = cluster.storage("documents").blob_directory
    folder.rename(tmp_path / "unmounted")
    for _ in range(2):
        with pytest.raises(FileUnreadable, match="is no blob directory") as caught:
            back_up(cluster)
        assert "Is its disk mounted" in caught.value.hint
        folder.mkdir(exist_ok=True)
    folder.rmdir()
    (tmp_path / "unmounted").rename(folder)
    again = back_up(cluster).storage("documents")
    assert again.blob_count == good.storage("documents").blob_count > 0
