"""What cannot be read is neither good nor bad: of sets on a disk that fails."""

import dataclasses
import errno
import json
import os
import shutil

import pytest
from backup_sets import backup_directory, sets_over_time
from failing_disk import failing, run_verb

from tidstorage.cluster.cluster import Retention
from tidstorage.errors import NotReachable, SetUnreadable, VerificationFailed
from tidstorage.sets import manifest, verdicts
from tidstorage.sets.blob_pool import pool_path, read_lists
from tidstorage.sets.verdicts import Fault, Verification
from tidstorage.system import clock
from tidstorage.verbs.prune.prune import plan

pytestmark = pytest.mark.integration

UNKNOWN = SetUnreadable.exit_status
ERRORS = [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES]
#: Keeps the second full set and what came after it.
ONE = Retention(keep_full=1)


@pytest.fixture(scope="module")
def over_time():
    return sets_over_time()


@pytest.fixture
def cluster(over_time, tmp_path):
    return over_time.cluster(tmp_path)


@pytest.fixture
def made(over_time):
    """Two full sets, each with two increments behind it; oldest first."""
    return over_time.made


def with_one(cluster):
    return dataclasses.replace(cluster, retention=ONE)


def data_of(made):
    """A full copy that is behind the newest three sets."""
    return made[3].storage("catalog").files[0].path


def states(cluster):
    """Oldest first."""
    return [
        "whole" if known.is_whole else "unknown" if known.is_unknown else "broken"
        for known in backup_directory(cluster).sets()[::-1]
    ]


def kept(cluster, retention=ONE):
    return [*plan(cluster, retention).kept]


def path_of_blob(cluster, made):
    lists = made[3].storage("documents").blob_lists
    blob = read_lists(cluster.backup.directory, lists).blobs[0]
    pool = backup_directory(cluster).pool("documents")
    return pool_path(pool, blob.sha256).relative_to(cluster.backup.directory)


PLACES = {
    "data": lambda _cluster, made: data_of(made),
    "blob list": lambda _cluster, made: made[3].storage("documents").blob_lists[0].path,
    "blob": path_of_blob,
}


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("calls", ["read", "open", "stat"])
def test_one_failed_read_condemns_no_set_and_clears_none(cluster, made, calls, number):
    path = data_of(made)
    disk = failing(path, number, calls, times=1)
    done = run_verb(cluster, "verify", "--all", "--depth", "digests", disk=disk)
    assert done.returncode == UNKNOWN, done.stderr
    assert path in done.stderr and os.strerror(number) in done.stderr
    assert states(cluster) == ["whole"] * 3 + ["unknown"] * 3
    # The older ones are the only ones that are known to be good.
    assert len(kept(cluster)) == 6
    done = run_verb(cluster, "verify", "latest", "--depth", "digests")
    assert done.returncode == 0, done.stderr
    assert states(cluster) == ["whole"] * 6
    assert kept(cluster) == [one.id for one in made[3:]]


@pytest.mark.parametrize("kind", PLACES)
def test_of_whatever_file(cluster, made, kind):
    path = PLACES[kind](cluster, made)
    done = run_verb(
        cluster, "verify", "--all", "--depth", "digests", "--json", disk=failing(path)
    )
    assert done.returncode == UNKNOWN, done.stderr
    said = json.loads(done.stdout)
    assert said["faults"] == []
    assert [cost["path"] for cost in said["unread"]] == [str(path)]
    assert [one["state"] for one in said["sets"][:3]] == ["unknown"] * 3
    assert states(cluster)[3:] == ["unknown"] * 3
    done = run_verb(cluster, "verify", "--all", "--depth", "digests")
    assert done.returncode == 0, done.stderr
    assert states(cluster) == ["whole"] * 6


def test_an_index_that_cannot_be_read_takes_nothing_from_a_set(cluster, made):
    disk = failing(made[5].storage("root").index.path)
    done = run_verb(cluster, "verify", "--all", "--depth", "digests", disk=disk)
    assert done.returncode == UNKNOWN
    assert "Every set is whole without it." in done.stderr
    assert states(cluster) == ["whole"] * 6


def test_what_is_rotten_too_stays_bad(cluster, made):
    rotten = made[3].storage("root").files[0].path
    path = cluster.backup.directory / rotten
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    arguments = ("verify", "--all", "--depth", "digests")
    done = run_verb(cluster, *arguments, disk=failing(data_of(made)))
    assert done.returncode == VerificationFailed.exit_status
    assert states(cluster)[3:] == ["broken"] * 3
    # Nor does a look that fails take the fault away.
    done = run_verb(cluster, *arguments, disk=failing(rotten))
    assert done.returncode == UNKNOWN
    assert states(cluster)[3:] == ["broken"] * 3


def test_a_look_less_deep_does_not_clear_it(cluster, made):
    disk = failing(data_of(made))
    run_verb(cluster, "verify", "--all", "--depth", "digests", disk=disk)
    done = run_verb(cluster, "verify", "--all", "--depth", "sizes")
    assert done.returncode == 0
    assert states(cluster)[3:] == ["unknown"] * 3


def test_what_another_run_had_read_well_before_does_not_clear_it(cluster, made):
    """Two commands, each with a round of its own, share what they have read."""
    none = ("--depth", "digests", "--budget", "0s")
    newest = made[5].files()[0].path
    run_verb(cluster, "verify", "--all", *none)
    disk = failing(newest)
    done = run_verb(cluster, "verify", made[5].id, "--depth", "digests", disk=disk)
    assert done.returncode == UNKNOWN
    disk = failing(newest)
    done = run_verb(cluster, "verify", "--all", "--depth", "digests", disk=disk)
    assert done.returncode == UNKNOWN
    assert states(cluster)[5] == "unknown"


def test_a_trial_restore_that_cannot_read_is_no_fault(cluster, made):
    arguments = ("verify", made[5].id, "--depth", "objects")
    scratch = f"/scratch/verify-{made[5].id}"
    for disk in (
        # Its digest is taken first, and well.
        failing(data_of(made), calls="open", after=1),
        failing(scratch, calls="read"),
    ):
        done = run_verb(cluster, *arguments, disk=disk)
        assert done.returncode == UNKNOWN, done.stderr
        assert "Input/output error" in done.stderr
        assert "broken" not in states(cluster)
        done = run_verb(cluster, *arguments)
        assert done.returncode == 0, done.stderr
        assert states(cluster) == ["whole"] * 6


def test_a_blob_is_noted_with_all_sets_that_need_it(cluster, made):
    """Blobs stand in no manifest: of the other sets nobody would know."""
    path = path_of_blob(cluster, made)
    disk = failing(path)
    done = run_verb(cluster, "verify", made[5].id, "--depth", "digests", disk=disk)
    assert done.returncode == UNKNOWN, done.stderr
    # Older sets may need it too, where it was written before.
    assert states(cluster)[3:] == ["unknown"] * 3


def test_prune_removes_nothing_where_it_cannot_look(cluster, made):
    before = sorted(cluster.backup.directory.rglob("*"))
    paths = [data_of(made), f"sets/{made[4].id}/{manifest.FILE_NAME}"]
    for path in paths:
        for number in ERRORS:
            disk = failing(path, number, "stat open")
            done = run_verb(with_one(cluster), "prune", disk=disk)
            assert done.returncode == UNKNOWN, done.stderr
            assert "nothing is removed" in done.stderr
            assert os.strerror(number) in done.stderr
    done = run_verb(
        with_one(cluster),
        "prune",
        disk=failing(backup_directory(cluster).sets_folder, calls="list"),
    )
    assert done.returncode == UNKNOWN, done.stderr
    assert [
        path
        for path in sorted(cluster.backup.directory.rglob("*"))
        if path.name != "operation.lock"
    ] == [path for path in before if path.name != "operation.lock"]
    assert run_verb(with_one(cluster), "prune").returncode == 0
    assert states(cluster) == ["whole"] * 3


def test_prune_cannot_read_what_a_verification_found(cluster, made):
    """A fault that it does not know of must not let the older sets go."""
    directory = backup_directory(cluster)
    fault = Fault(path=data_of(made), what="is not what was written", depth="digests")
    for one in made[3:]:
        directory.note_verification(
            one.id, Verification("digests", clock.now(), [fault])
        )
    done = run_verb(
        with_one(cluster), "prune", disk=failing(verdicts.FILE_NAME, calls="open")
    )
    assert done.returncode == UNKNOWN, done.stderr
    assert states(cluster) == ["whole"] * 3 + ["broken"] * 3


def test_prune_keeps_what_a_verification_could_not_read_and_says_so(cluster, made):
    increment = made[5].storage("root").files[-1].path
    run_verb(cluster, "verify", "--all", "--depth", "digests", disk=failing(increment))
    assert states(cluster) == ["whole"] * 5 + ["unknown"]
    done = run_verb(with_one(cluster), "prune")
    assert done.returncode == UNKNOWN
    assert made[5].id in done.stderr and "could not be read" in done.stderr
    assert states(cluster) == ["whole"] * 2 + ["unknown"]


def test_backups_names_what_it_cannot_look_at(cluster, made):
    for number in ERRORS:
        disk = failing(data_of(made), number, "stat")
        done = run_verb(cluster, "backups", "--json", disk=disk)
        assert done.returncode == UNKNOWN
        said = json.loads(done.stdout)
        assert [one["whole"] for one in said] == [False] * 3 + [True] * 3
        assert all(one["faults"] == [] for one in said)
        assert all(data_of(made) in one["unknown"][0] for one in said[:3])
        disk = failing(f"{made[5].id}/{manifest.FILE_NAME}", number, "stat open")
        done = run_verb(cluster, "backups", disk=disk)
        assert done.returncode == UNKNOWN
        assert made[4].id in done.stdout and os.strerror(number) in done.stderr
        done = run_verb(cluster, "points", disk=disk)
        assert done.returncode == UNKNOWN
    assert states(cluster) == ["whole"] * 6


def test_restore_does_not_pass_over_what_it_cannot_read(cluster, made, tmp_path):
    into = tmp_path / "restored"
    restore = ("restore", "--into", str(into))
    for path, calls in (
        (data_of(made), "stat"),
        (f"{made[5].id}/{manifest.FILE_NAME}", "open"),
        (data_of(made), "open"),
        (data_of(made), "read"),
        (str(path_of_blob(cluster, made)), "read"),
        (made[3].storage("documents").blob_lists[0].path, "read"),
    ):
        for number in (errno.EIO, errno.EACCES):
            disk = failing(path, number, calls)
            done = run_verb(cluster, *restore, disk=disk)
            assert done.returncode == UNKNOWN, done.stderr
            assert path in done.stderr and os.strerror(number) in done.stderr
            assert "damaged;" not in done.stderr and "not whole:" not in done.stderr
            assert not into.exists() or not any(into.iterdir())
    # What does not need the file is not held up.
    disk = failing(data_of(made), calls="read")
    done = run_verb(cluster, *restore, "--set", made[2].id, disk=disk)
    assert done.returncode == 0, done.stderr


def test_restore_of_a_moment_says_that_nobody_knows(cluster, made, tmp_path):
    moment = made[4].point.time.isoformat()
    restore = ("restore", "--into", str(tmp_path / "restored"), "--to", moment)
    disk = failing(data_of(made), calls="stat")
    done = run_verb(cluster, *restore, disk=disk)
    assert done.returncode == UNKNOWN, done.stderr
    assert "nobody knows" in done.stderr
    (cluster.backup.directory / data_of(made)).unlink()
    done = run_verb(cluster, *restore)
    assert done.returncode == NotReachable.exit_status, done.stderr


def test_a_set_that_could_not_be_read_is_tried_where_it_is_named(
    cluster, made, tmp_path
):
    run_verb(
        cluster, "verify", "--all", "--depth", "digests", disk=failing(data_of(made))
    )
    into = ("restore", "--into", str(tmp_path / "restored"))
    done = run_verb(cluster, *into)
    assert done.returncode == UNKNOWN
    assert f"bin/cluster verify {made[5].id}" in done.stderr
    done = run_verb(cluster, *into, "--set", made[5].id)
    assert done.returncode == 0, done.stderr


def test_the_memory_of_a_verification_that_fails_is_no_obstacle(cluster):
    disk = failing("verified.sqlite", calls="open")
    done = run_verb(cluster, "verify", "--all", "--depth", "digests", disk=disk)
    assert done.returncode == 0, done.stderr
    assert "the next run will not go on from here" in done.stderr
    assert states(cluster) == ["whole"] * 6


def test_what_the_former_version_called_bad_since_it_could_not_read_it(cluster, made):
    directory = backup_directory(cluster)
    what = "cannot be read: Input/output error"
    fault = Fault(path=data_of(made), what=what, depth="digests")
    directory.note_verification(
        made[5].id, Verification("digests", clock.now(), [fault])
    )
    assert states(cluster) == ["whole"] * 3 + ["unknown"] * 3
    assert run_verb(cluster, "verify", made[5].id, "--depth", "digests").returncode == 0
    assert states(cluster) == ["whole"] * 6


@pytest.mark.parametrize("is_link", [False, True])
def test_a_copy_of_a_sets_folder_is_no_set(cluster, made, is_link):
    directory = backup_directory(cluster)
    copies = []
    for one in (made[0], made[5]):
        copy = directory.sets_folder / f"{one.id}-copy"
        if is_link:
            copy.symlink_to(one.id)
        else:
            shutil.copytree(directory.set_folder(one.id), copy)
        copies.append(copy)
    done = run_verb(cluster, "backups", "--json")
    assert [one["id"] for one in json.loads(done.stdout)] == [
        one.id for one in made[::-1]
    ]
    assert all(str(copy) in done.stderr for copy in copies)
    done = run_verb(with_one(cluster), "prune")
    assert done.returncode == 0, done.stderr
    assert all(str(copy) in done.stderr for copy in copies)
    assert states(cluster) == ["whole"] * 3
    assert all(os.path.lexists(copy) for copy in copies)
    if not is_link:
        assert all((copy / manifest.FILE_NAME).is_file() for copy in copies)
    for verb in (["prune"], ["verify", "--all", "--depth", "digests"]):
        done = run_verb(with_one(cluster), *verb)
        assert done.returncode == 0, done.stderr
    done = run_verb(cluster, "verify", copies[1].name)
    assert done.returncode == 9, done.stderr


def test_a_copy_of_a_set_that_is_half_removed_is_left_alone(cluster, made):
    directory = backup_directory(cluster)
    copy = directory.sets_folder / "saved"
    shutil.copytree(directory.set_folder(made[5].id), copy)
    (copy / manifest.FILE_NAME).rename(copy / "pruned.json")
    done = run_verb(with_one(cluster), "prune")
    assert done.returncode == 0, done.stderr
    assert str(copy) in done.stderr
    assert (copy / "pruned.json").exists()
    assert states(cluster) == ["whole"] * 3


def test_what_a_set_needs_whose_folder_lies_behind_a_link_stays(
    cluster, made, tmp_path
):
    """Somebody has moved it to another disk; once it is back, it is a set again."""
    directory = backup_directory(cluster)
    folder, moved = directory.set_folder(made[2].id), tmp_path / "moved"
    folder.rename(moved)
    folder.symlink_to(moved)
    done = run_verb(with_one(cluster), "prune")
    assert done.returncode == 0, done.stderr
    assert str(folder) in done.stderr
    assert folder.is_symlink() and (moved / manifest.FILE_NAME).exists()
    folder.unlink()
    moved.rename(folder)
    arguments = ("verify", made[2].id, "--depth", "objects")
    done = run_verb(cluster, *arguments)
    assert done.returncode == 0, done.stderr
