"""What a prune leaves of real sets: all that is kept is as it was, and no more."""

import argparse
import dataclasses
import json
import subprocess

import pytest
import records
from backup_sets import backup_directory, sets_over_time
from dying import killed_at, recorded

from tidstorage.cluster.cluster import Retention
from tidstorage.commands import prune as verb
from tidstorage.errors import InterruptedRestore, Locked, NotCoherent
from tidstorage.operation import lock, results
from tidstorage.operation.unfinished import swap_journal
from tidstorage.sets import manifest
from tidstorage.sets.blob_pool import pool_path, read_lists
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.verdicts import Fault, Verification
from tidstorage.system import child
from tidstorage.verbs.prune import prune as perform
from tidstorage.verbs.prune.prune import plan, prune
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere

pytestmark = pytest.mark.integration

#: Keeps the second full set and what came after it.
ONE = Retention(keep_full=1)


@pytest.fixture(scope="module")
def over_time():
    return sets_over_time()


@pytest.fixture
def cluster(over_time, tmp_path):
    return over_time.cluster(tmp_path)


def ids(found):
    return [each.id for each in found]


def sets_in(cluster):
    """The sets there are, oldest first; every one of them whole."""
    found = backup_directory(cluster).sets()[::-1]
    assert all(each.is_whole for each in found)
    return [each.manifest for each in found]


def files_in(cluster):
    directory = cluster.backup.directory
    return {
        str(path.relative_to(directory)): path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file()
    }


def check_all_restores(cluster, folder):
    """Every set that is left, by us, with its blobs; and the newest by stock repozo."""
    for each in sets_in(cluster):
        into = folder / each.id
        restore_elsewhere(cluster, Request(set_id=each.id), into)
        content = {s.id: records.read(into / s.id / "Data.fs") for s in each.storages}
        assert records.violations(content, each.point.vector) == []
        stored = each.storage("documents")
        held = read_lists(cluster.backup.directory, stored.blob_lists).blobs
        assert len(held) == stored.blob_count > 0
        for one in held:
            assert (into / "documents/blobs" / one.path).is_file()
    for storage in each.storages:
        copy = folder / f"{storage.id}.fs"
        repository = backup_directory(cluster).repository(storage.id)
        command = [*child.python("ZODB.scripts.repozo"), "-R", "-w", "-r", repository]
        subprocess.run(
            [*map(str, command), "-o", str(copy)],
            env=child.environment(),
            check=True,
        )
        assert copy.stat().st_size == storage.size


def test_the_older_full_set_goes_with_all_that_hung_on_it(
    over_time, cluster, tmp_path, capsys
):
    before = files_in(cluster)
    needed = {each.path for one in over_time.made[3:] for each in one.files()}
    assert plan(cluster, ONE).frees.size > 0
    assert files_in(cluster) == before
    report = prune(cluster, ONE)
    assert ids(each.manifest for each in report.removed) == ids(over_time.made[:3])
    assert sets_in(cluster) == list(over_time.made[3:])
    after = files_in(cluster)
    assert needed <= after.keys()
    named = {each.path for one in over_time.made[:3] for each in one.files()}
    assert not (named - needed) & after.keys()
    for storage in cluster.storages:
        folder = backup_directory(cluster).repository(storage.id)
        assert len([*folder.glob("*.dat")]) == 1
    stored = sum(
        size
        for path, size in (before.items() - after.items())
        if not path.endswith((".dat", ".index", ".json", "operation.lock"))
    )
    assert report.frees.size == stored
    check_all_restores(cluster, tmp_path / "restored")
    assert prune(cluster, ONE).removed == []
    with_one = dataclasses.replace(cluster, retention=ONE)
    verb.run(argparse.Namespace(json=False, dry_run=False), with_one)
    said = capsys.readouterr().out
    assert "No set is removed." in said and "0 bytes freed" in said


def test_the_dry_run_says_the_same_as_the_run(over_time, cluster, capsys):
    cluster = dataclasses.replace(cluster, retention=ONE)
    verb.run(argparse.Namespace(json=True, dry_run=True), cluster)
    dry = json.loads(capsys.readouterr().out)
    verb.run(argparse.Namespace(json=True, dry_run=False), cluster)
    assert json.loads(capsys.readouterr().out) == dry
    assert dry["removed"] == ids(over_time.made[:3])


def test_increments_that_are_not_kept_go_from_the_end_of_their_chain(
    over_time, cluster, tmp_path, monkeypatch
):
    """As where the last set of a week is kept: it needs what came before it."""
    first, second, third, *rest = over_time.made
    keep = {each.id: ("asked for",) for each in (second, *rest)}
    monkeypatch.setattr(perform, "choose_kept", lambda *_: keep)
    assert ids(each.manifest for each in prune(cluster).removed) == [first.id, third.id]
    assert sets_in(cluster) == [second, *rest]
    left = files_in(cluster)
    for storage in third.storages:
        assert storage.files[0].path in left
        assert storage.files[-1].path not in left
    check_all_restores(cluster, tmp_path / "restored")


def test_blobs_go_with_the_last_set_that_needs_them(over_time, cluster, monkeypatch):
    directory = cluster.backup.directory
    pool = BackupDirectory(directory).pool("documents")

    def held(made):
        found = read_lists(directory, made.storage("documents").blob_lists)
        return {pool_path(pool, each.sha256) for each in found.blobs}

    needed = held(over_time.made[0])
    lost = held(over_time.made[5]) - needed
    assert lost
    keep = {over_time.made[0].id: ("asked for",)}
    monkeypatch.setattr(perform, "choose_kept", lambda *_: keep)
    prune(cluster)
    assert {*pool.glob("??/*")} == needed


def test_without_knowing_what_a_set_needs_nothing_goes(over_time, cluster):
    folder = backup_directory(cluster).sets_folder / over_time.made[4].id
    (folder / manifest.FILE_NAME).write_text("{")
    before = files_in(cluster)
    with pytest.raises(NotCoherent, match="nothing is removed") as caught:
        prune(cluster, ONE)
    assert "Move its folder away" in caught.value.hint
    assert files_in(cluster) == before


def test_where_a_list_of_blobs_is_broken_no_blob_goes(over_time, cluster, caplog):
    kept = over_time.made[5].storage("documents").blob_lists[0].path
    path = cluster.backup.directory / kept
    path.write_bytes(path.read_bytes().replace(b"0", b"1"))
    pool = backup_directory(cluster).pool("documents")
    before = {*pool.glob("??/*")}
    prune(cluster, ONE)
    assert {*pool.glob("??/*")} == before
    assert "is freed" in caplog.text


def test_a_set_that_was_found_bad_does_not_count(over_time, cluster):
    """Else the last good one would go."""
    rotten = over_time.made[3].storage("root").files[0].path
    fault = Fault(path=rotten, what="is not what was written", depth="digests")
    outcome = Verification("digests", over_time.made[3].point.time, [fault])
    backup_directory(cluster).note_verification(over_time.made[3].id, outcome)
    report = prune(cluster, ONE)
    assert report.removed == []
    assert "newest good" in report.kept[over_time.made[2].id]


def test_what_no_set_ever_named_is_left_alone(cluster):
    folder = backup_directory(cluster).repository("root")
    of_before = folder / "2020-01-01-00-00-01.fs"
    of_before.write_bytes(b"by plain repozo")
    prune(cluster, ONE)
    assert of_before.exists()


def test_one_at_a_time(cluster):
    with lock.hold(cluster, "backup"), pytest.raises(Locked, match="backup"):
        prune(cluster, ONE)


def test_what_an_interrupted_restore_may_need_stays(cluster):
    journal = swap_journal(cluster)
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_text("{}")
    before = files_in(cluster)
    with pytest.raises(InterruptedRestore):
        prune(cluster, ONE)
    assert files_in(cluster) == before
    assert results.read(cluster, "prune").last.status == InterruptedRestore.exit_status


def test_killed_before_any_step_the_next_run_ends_it(over_time, tmp_path):
    recording = over_time.cluster(tmp_path / "recording")
    steps = recorded(lambda: prune(recording, ONE))
    end = {*files_in(recording)}
    named = {each.name for each in steps}
    for place in (
        "_set_aside: os.rename",
        "_remove_set: os.remove",
        "_remove_set: os.rmdir",
    ):
        assert any(each.endswith(place) for each in named), place
    for number, step in enumerate(steps):
        cluster = over_time.cluster(tmp_path / str(number))
        assert killed_at(step, lambda c=cluster: prune(c, ONE)), step
        # What is offered is whole, or is no set any more.
        assert sets_in(cluster)[-3:] == list(over_time.made[3:]), step
        report = prune(cluster, ONE)
        assert {*files_in(cluster)} == end, step
        assert len(report.removed) + len(report.ended) <= 3
