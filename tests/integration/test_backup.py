"""Backups with real servers, real writers and the real repozo."""

import dataclasses
import itertools
import subprocess
from pathlib import Path

import lagging_clock
import pytest
import records
from backup_sets import backup_directory, repozo, whole_sets, with_backup
from offline_site import OfflineSite
from real_processes import PATIENCE, wait_until
from small_cluster import small_cluster

from tidstorage.errors import (
    ClusterRunning,
    EngineFailed,
    FileUnreadable,
    Locked,
    NotConnected,
)
from tidstorage.operation import lock
from tidstorage.points.beside import point_path, read_point
from tidstorage.sets.blob_pool import pool_path, read_lists
from tidstorage.sets.directory import BackupDirectory
from tidstorage.system import child, private_files
from tidstorage.verbs.backup.backup import back_up

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path):
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


def test_a_set_taken_under_load_holds_what_its_point_covers(small, tmp_path):
    cluster = small.cluster()
    with small.writer(2), small.writer(3):
        made = [back_up(cluster)]
        files = [each.data_file for each in cluster.storages]
        before = {each: each.stat().st_size for each in files}
        wait_until(
            lambda: all(each.stat().st_size > before[each] for each in files),
            "there is something new",
        )
        made.append(back_up(cluster))
    small.stop()
    assert [each.kind for each in made] == ["full", "incremental"]
    last = made[1]
    assert last.point.source == "barrier"
    assert last.strict == last.point.vector
    assert not last.point.damage
    content = {}
    for storage in cluster.storages:
        copy = tmp_path / f"{storage.id}.fs"
        folder = backup_directory(cluster).repository(storage.id)
        repozo("-R", "-r", folder, "-o", copy)
        assert copy.stat().st_size == last.storage(storage.id).size
        content[storage.id] = records.read(copy)
        assert last.point.vector[storage.id] in [tid for tid, _ in content[storage.id]]
    assert records.violations(content, last.point.vector) == []
    assert made[1].floor == made[0].point
    beside = point_path(cluster.storages[0].data_file)
    assert read_point(beside) == made[1].point
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
    held = read_lists(directory, second.blob_lists)
    assert held.layout == "bushy"
    live = small.beta.blob_directory("documents")
    for each in held.blobs:
        stored = pool_path(BackupDirectory(directory).pool("documents"), each.sha256)
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


def test_files_of_plain_repozo_in_the_repository_are_continued(small):
    cluster = small.cluster()
    for storage in cluster.storages:
        folder = backup_directory(cluster).repository(storage.id)
        private_files.make_folder(folder)
        repozo("-B", "-r", folder, "-f", storage.data_file)
    small.write(2, 10, group=["catalog", "documents", "root"])
    made = back_up(cluster)
    assert made.kind == "incremental"
    assert [len(each.files) for each in made.storages] == [2, 2, 2]


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


def describe(small, path):
    """The cluster as a cluster.toml."""
    backup = f'[backup]\ndirectory = "{small.folder}/backup"\n'
    path.write_text(f"{backup}schedule = '5 4 * * *'\n{small.description()}")


def tidstorage_repozo(*arguments):
    """The script cron calls, as a process."""
    return subprocess.run(
        [*child.python("tidstorage.commands.scripts.repozo"), *map(str, arguments)],
        env=child.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
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


def test_the_clock_that_names_copies_lags_behind_the_other(tmp_path, monkeypatch):
    """repozo finds no delta of the second of its full copy, and restores without it."""
    lagging_clock.install(monkeypatch)
    site = OfflineSite(tmp_path, monkeypatch)
    site.files.close()
    lagging_clock.await_part_of_second(lagging_clock.LAG)
    for _ in range(3):
        site.commit("a b")
        made = back_up(site.cluster)
    for storage in made.storages:
        seconds = [Path(file.path).name.partition(".")[0] for file in storage.files]
        assert len(seconds) == len({*seconds}) == 3
