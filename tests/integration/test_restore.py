"""Restores with real servers, real writers and the real repozo."""

import argparse
import dataclasses
import pickle
import subprocess
import sys

import pytest
import records
import ZODB
from real import PATIENCE
from small_cluster import small_cluster
from ZODB.FileStorage import FileStorage

from tidstorage.commands import restore as verb
from tidstorage.errors import (
    ClusterRunning,
    Damaged,
    EngineFailed,
    InterruptedRestore,
    NoSpace,
    NoSuchSet,
    NotCoherent,
    NotReady,
)
from tidstorage.operation.unfinished import interrupted_swap, plan_beside
from tidstorage.points.beside import point_path, read_point
from tidstorage.sets import layout, listing
from tidstorage.system import child, disks
from tidstorage.system.clock import local
from tidstorage.verbs.backup import copying
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore import assemble, check, cutting, restore, swap
from tidstorage.verbs.restore.plan import Request

pytestmark = pytest.mark.integration
STEPS = (
    "assemble.data_file",
    "cutting.cut",
    "check.check",
    "assemble.blob_directory",
    "swap.write",
    "swap.execute",
    "swap.finish",
)


@pytest.fixture
def small(tmp_path, monkeypatch):
    with small_cluster(tmp_path) as running:
        monkeypatch.setattr(
            "tidstorage.processes.running.find_running", running.running_parts
        )
        yield running


def contents(cluster):
    """{path: bytes} of all that a restore may change, but for locks."""
    found = {}
    for storage in cluster.storages:
        folders = [storage.data_file.parent]
        for path in (each for folder in folders for each in folder.rglob("*")):
            if path.is_file() and not path.name.endswith((".lock", ".log", ".conf")):
                found[path] = path.read_bytes()
    return found


def check_restored(cluster, made):
    """The files hold the point, nothing after it, and nothing torn."""
    content = {s.id: records.read(s.data_file) for s in cluster.storages}
    ends = {s: held[-1][0] for s, held in content.items()}
    assert ends == dict(made.point.vector)
    assert records.violations(content, ends) == []
    return content


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
    report = restore.in_place(cluster, Request())
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
    really_open = copying._open

    def open_and_write(*arguments):
        """What the next copy has, and this one has not."""
        source = really_open(*arguments)
        small.write(3, 2, group=group)
        return source

    with monkeypatch.context() as patched:
        patched.setattr(copying, "_open", open_and_write)
        made = back_up(cluster)
    small.stop()
    monkeypatch.setattr(
        cutting,
        "choose_cut",
        lambda manifest, policy: dict.fromkeys(manifest.point.vector, (1 << 63) - 1),
    )
    before = contents(cluster)
    with pytest.raises(NotCoherent, match="do not fit together"):
        restore.in_place(cluster, Request())
    assert contents(cluster) == before
    monkeypatch.setattr(check, "check", lambda *arguments: None)
    restore.in_place(cluster, Request())
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
    restore.in_place(cluster, Request())
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
        restore.in_place(cluster, Request())
    assert contents(cluster) == before
    small.alpha.stop()
    before = contents(cluster)
    with pytest.raises(ClusterRunning):
        restore.in_place(cluster, Request())
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
        restore.in_place(cluster, Request())


def test_nothing_to_restore(small):
    cluster = small.cluster()
    small.stop()
    with pytest.raises(NoSuchSet, match="no whole backup set"):
        restore.in_place(cluster, Request())
    with pytest.raises(NoSuchSet, match="no set 20200101T000000Z"):
        restore.in_place(cluster, Request(set_id="20200101T000000Z"))
    with pytest.raises(NoSuchSet, match="has the point 7-x"):
        restore.in_place(cluster, Request(point_id="7-x"))


def test_an_older_set_or_point_by_its_id(small):
    cluster = small.cluster()
    small.write(1, 4)
    old = back_up(cluster)
    small.write(2, 4)
    back_up(cluster)
    small.stop()
    restore.in_place(cluster, Request(set_id=old.id))
    check_restored(cluster, old)
    restore.in_place(cluster, Request(point_id=old.point.id))
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
        restore.in_place(cluster, Request())
    assert contents(cluster) == before


def test_a_blob_that_is_gone_is_found_and_changes_nothing(small):
    cluster = small.cluster()
    small.write(2, 12, group=["documents"])
    back_up(cluster)
    small.stop()
    pool = layout.pool(cluster.backup.directory, "documents")
    next(pool.glob("??/*")).unlink()
    before = contents(cluster)
    with pytest.raises(NotCoherent, match=r"blob .* is missing"):
        restore.in_place(cluster, Request())
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
        restore.in_place(cluster, Request(set_id=new.id))


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
            restore.in_place(cluster, request)
        said = str(caught.value)
        assert made.point.damage[0].commit_id.hex() in said
        assert f"--strict loses {made.strict_loss.transactions} transaction" in said
        assert f"--set {clean.id} loses all since" in said
        assert "--tolerant keeps everything" in said
    assert contents(cluster) == before


def test_strict_leaves_the_half_commit_out(damaged):
    cluster, _, made = damaged
    restore.in_place(cluster, Request(policy="strict"))
    content = {s.id: records.read(s.data_file) for s in cluster.storages}
    assert records.violations(content, {s: h[-1][0] for s, h in content.items()}) == []
    half = made.point.damage[0].commit_id
    held = {mark.commit_id for marks in content.values() for _, mark in marks if mark}
    assert half not in held
    beside = read_point(point_path(cluster.storages[0].data_file))
    assert beside.vector == made.strict


def test_tolerant_keeps_it_and_it_stays_known(damaged, small):
    cluster, clean, made = damaged
    restore.in_place(cluster, Request(policy="tolerant"))
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
    restore.elsewhere(cluster, Request(), into)
    assert {s.data_file: s.data_file.stat().st_ino for s in cluster.storages} == before
    for storage in cluster.storages:
        assert (
            records.read(into / storage.id / "Data.fs")[-1][0]
            == (made.point.vector[storage.id])
        )
    assert list((into / "documents" / "blobs").rglob("*.blob"))
    with pytest.raises(EngineFailed, match="not an empty folder"):
        restore.elsewhere(cluster, Request(), into)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(EngineFailed, match="not an empty folder"):
        restore.elsewhere(cluster, Request(), file)


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
        restore.in_place(cluster, Request())
    assert contents(cluster) == before
    monkeypatch.setattr(
        disks.shutil, "disk_usage", lambda path: argparse.Namespace(free=10)
    )
    with pytest.raises(NoSpace, match="has 10 bytes free"):
        restore.in_place(cluster, Request())
    with pytest.raises(NoSpace, match="has 10 bytes free"):
        restore.elsewhere(cluster, Request(), cluster.directory / "new")
    assert contents(cluster) == before


RESTORE_AND_DIE = """
import itertools, os, pickle, sys
from tidstorage.processes import running
from tidstorage.system.clock import local
from tidstorage.verbs.restore import assemble, check, cutting, restore, swap
running.find_running = lambda cluster: []
step, count, before = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "before"
module, name = step.split(".")
module = dict(assemble=assemble, check=check, cutting=cutting, restore=restore,
              swap=swap)[module]
original = getattr(module, name)
calls = itertools.count(1)
def wrapped(*arguments):
    # Several threads may be in here at once: each has its own number.
    chosen = next(calls) == count
    if before and chosen:
        os._exit(9)
    result = original(*arguments)
    if chosen:
        os._exit(9)
    return result
setattr(module, name, wrapped)
restore.in_place(pickle.load(sys.stdin.buffer), restore.Request())
"""


def restore_and_die(cluster, step, count=1, when="after"):
    """A restore in a process that ends at that step; whether it came there."""
    ended = subprocess.run(
        [sys.executable, "-c", RESTORE_AND_DIE, step, str(count), when],
        input=pickle.dumps(cluster),
        env=child.environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode in (0, 9)
    return ended.returncode == 9


@pytest.fixture
def lost(small):
    """(cluster, its set): stopped, with more committed after the set."""
    cluster = small.cluster()
    small.write(1, 4)
    small.write(2, 6, group=["documents"])
    made = back_up(cluster)
    small.write(3, 5)
    small.stop()
    return cluster, made


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_step_the_next_run_mends(lost, when):
    cluster, made = lost
    before = contents(cluster)
    for step in STEPS:
        assert restore_and_die(cluster, step, when=when)
        begun = interrupted_swap(cluster)
        assert bool(begun) == (
            (step, when)
            in {
                ("swap.write", "after"),
                ("swap.execute", "before"),
                ("swap.execute", "after"),
                ("swap.finish", "before"),
            }
        ), step
        if begun:
            with pytest.raises(InterruptedRestore):
                back_up(cluster)
            report = restore.in_place(cluster, Request(set_id="whatever"))
            assert report.resumed
            assert report.kept
        else:
            untouched = contents(cluster)
            if not any("before-restore" in path.name for path in untouched):
                assert {p: c for p, c in untouched.items() if p in before} == before
            restore.in_place(cluster, Request())
        check_restored(cluster, made)
        assert not [each for each in contents(cluster) if "restoring" in str(each)], (
            step
        )


def test_killed_at_each_action_of_the_swap_the_next_run_mends(lost):
    cluster, made = lost
    count = 1
    while restore_and_die(cluster, "swap.perform", count):
        assert interrupted_swap(cluster)
        assert restore.in_place(cluster, Request()).resumed
        check_restored(cluster, made)
        count += 1
    assert count > 10
    check_restored(cluster, made)


def test_a_disk_that_fills_up_in_the_swap_is_told_with_what_to_do(lost, monkeypatch):
    cluster, made = lost

    def full(*arguments):
        raise OSError(28, "No space left on device", "x")

    with monkeypatch.context() as patched:
        patched.setattr(swap, "write_beside", full)
        with pytest.raises(InterruptedRestore, match="No space left") as caught:
            restore.in_place(cluster, Request())
    assert "run the same restore again" in caught.value.hint
    assert restore.in_place(cluster, Request()).resumed
    check_restored(cluster, made)


def test_what_an_interrupted_cut_was_to_do_ends_with_the_old_files(lost):
    """The cluster would refuse to start for a plan that is of other files."""
    cluster, made = lost
    plan = plan_beside(cluster.storages[0].data_file)
    plan.write_text("of the old file")
    restore.in_place(cluster, Request())
    assert not plan.exists()
    check_restored(cluster, made)


def test_blobs_that_would_have_no_place_are_no_small_matter(lost):
    cluster, _ = lost
    without = [dataclasses.replace(s, blob_directory=None) for s in cluster.storages]
    before = contents(cluster)
    with pytest.raises(NotCoherent, match="blobs of storage documents"):
        restore.in_place(dataclasses.replace(cluster, storages=(*without,)), Request())
    assert contents(cluster) == before


def test_stop_stops_restores_and_starts(small, monkeypatch):
    cluster = small.cluster()
    small.write(1, 4)
    made = back_up(cluster)
    small.write(2, 4)
    calls = []
    processes = argparse.Namespace(
        stop=lambda cluster, **options: (calls.append("stop"), small.stop()),
        start=lambda cluster, **options: (calls.append("start"), small.start()),
        list_running=small.running_parts,
    )
    monkeypatch.setattr(verb, "control", processes)
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    with pytest.raises(NoSuchSet):
        verb.run(parser.parse_args(["--stop", "--set", "nothing"]), cluster)
    assert calls == [], "stopped for nothing"
    assert verb.run(parser.parse_args(["--stop", "--json"]), cluster) == 0
    assert calls == ["stop", "start"]
    small.stop()
    check_restored(cluster, made)


class FailingProcesses:
    """Parts that stop, as far as they are told to, and do not start again."""

    def __init__(self, stops):
        self.parts = ["Zope web-1", "ZEO server alpha"]
        self.stops = stops

    def list_running(self, cluster):
        return list(self.parts)

    def stop(self, cluster, **options):
        del self.parts[: self.stops]
        if self.parts:
            raise NotReady("cannot be ended: ZEO server alpha", "It hangs.")

    def start(self, cluster, **options):
        raise NotReady("Zope web is not ready", "Look at its log.")


def test_a_start_that_fails_hides_nothing_of_the_restore(lost, monkeypatch):
    cluster, made = lost
    monkeypatch.setattr(verb, "control", FailingProcesses(stops=2))
    before = contents(cluster)
    with monkeypatch.context() as patched:
        patched.setattr(assemble, "_append", failing(OSError(28, "No space left")))
        with pytest.raises(NoSpace) as failed:
            verb.restore(cluster, Request(), None, True, print)
    assert "Nor did the cluster start: Zope web is not ready" in failed.value.hint
    assert "Now down: Zope web-1, ZEO server alpha" in failed.value.hint
    assert "bin/cluster start" in failed.value.hint
    assert contents(cluster) == before
    monkeypatch.setattr(verb, "control", FailingProcesses(stops=2))
    with pytest.raises(NotReady) as caught:
        verb.restore(cluster, Request(), None, True, print)
    assert "Look at its log." in caught.value.hint
    assert f"The restore itself is done: set {made.id}" in caught.value.hint
    assert ".before-restore-" in caught.value.hint
    assert "Now down: Zope web-1, ZEO server alpha" in caught.value.hint


def failing(error):
    def fail(*arguments, **options):
        raise error

    return fail


def test_a_stop_that_fails_half_way_says_what_is_down(lost, monkeypatch):
    cluster, _ = lost
    before = contents(cluster)
    monkeypatch.setattr(verb, "control", FailingProcesses(stops=1))
    with pytest.raises(NotReady, match="cannot be ended") as caught:
        verb.restore(cluster, Request(), None, True, print)
    assert "Now down: Zope web-1; bin/cluster start" in caught.value.hint
    assert contents(cluster) == before


def test_an_interruption_amid_the_stop_says_what_is_down(lost, monkeypatch):
    cluster, _ = lost
    processes = FailingProcesses(stops=1)

    def interrupted(cluster, **options):
        processes.parts.remove("Zope web-1")
        raise KeyboardInterrupt

    processes.stop = interrupted
    monkeypatch.setattr(verb, "control", processes)
    told = []
    with pytest.raises(KeyboardInterrupt):
        verb.restore(cluster, Request(), None, True, told.append)
    assert told == ["Now down: Zope web-1; bin/cluster start starts what is down."]


def test_an_interruption_amid_the_start_hides_nothing(lost, monkeypatch):
    cluster, made = lost
    processes = FailingProcesses(stops=2)
    processes.start = failing(KeyboardInterrupt())
    monkeypatch.setattr(verb, "control", processes)
    told = []
    with pytest.raises(KeyboardInterrupt):
        verb.restore(cluster, Request(), None, True, told.append)
    assert f"The restore itself is done: set {made.id}" in told[0]
    assert "Now down: Zope web-1, ZEO server alpha" in told[1]


def test_what_cannot_be_restored_stops_nothing(lost, monkeypatch):
    cluster, _ = lost
    processes = FailingProcesses(stops=2)
    monkeypatch.setattr(verb, "control", processes)
    fewer = dataclasses.replace(cluster, storages=cluster.storages[:2])
    with pytest.raises(NotCoherent, match="has storages that the cluster has not"):
        verb.restore(fewer, Request(), None, True, print)
    monkeypatch.setattr(
        disks.shutil, "disk_usage", lambda path: argparse.Namespace(free=10)
    )
    with pytest.raises(NoSpace):
        verb.restore(cluster, Request(), None, True, print)
    assert len(processes.parts) == 2


def test_interrupted_by_the_keyboard_amid_the_swap(lost, monkeypatch):
    cluster, made = lost
    with monkeypatch.context() as patched:
        patched.setattr(swap, "write_beside", failing(KeyboardInterrupt()))
        with pytest.raises(InterruptedRestore) as caught:
            restore.in_place(cluster, Request())
    assert "Run the same restore again" in caught.value.hint
    assert restore.in_place(cluster, Request()).resumed
    check_restored(cluster, made)


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
        restore.in_place(fewer, Request())
    retired = dataclasses.replace(fewer, retired=frozenset(["documents"]))
    restore.in_place(retired, Request())
    made_elsewhere = cluster.directory / "new.fs"
    other = dataclasses.replace(cluster.storages[0], id="new", data_file=made_elsewhere)
    more = dataclasses.replace(cluster, storages=(*cluster.storages, other))
    with pytest.raises(NotCoherent, match="has no storage new"):
        restore.in_place(more, Request())
    assert listing.by_id(cluster.backup.directory, made.id).is_whole


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
    report = restore.in_place(cluster, Request())
    assert link.is_symlink()
    assert (disk / f"catalog.fs{report.kept}").exists()
    check_restored(cluster, made)
    small.start()
    small.write(3, 4)
    assert back_up(cluster).floor.source == "restore"
