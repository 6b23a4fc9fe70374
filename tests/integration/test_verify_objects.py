"""The deepest look: sets restored to scratch, objects read, references followed."""

import dataclasses
import datetime
import errno
import shutil

import pytest
import transaction
from backup_sets import backup_directory, sets_over_time
from dying import killed_at, recorded
from persistent.mapping import PersistentMapping
from small_cluster import small_cluster
from stamping_writer import add_stamp, open_connections
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf

from tidstorage.commands import cluster as front
from tidstorage.errors import NoSpace, NotCoherent, VerificationFailed
from tidstorage.operation import results
from tidstorage.operation.progress import Phase
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore import check
from tidstorage.verbs.verify import objects, restoring, trial
from tidstorage.verbs.verify.budget import OutOfTime, TimeBudget
from tidstorage.verbs.verify.restoring import TriedRestore
from tidstorage.verbs.verify.trial import ObjectFault
from tidstorage.verbs.verify.verify import VerifyRequest, verify

pytestmark = pytest.mark.integration

LATEST = VerifyRequest("latest", "objects")
NO_TIME = datetime.timedelta(0)


@pytest.fixture(scope="module")
def over_time():
    return sets_over_time()


@pytest.fixture
def cluster(over_time, tmp_path):
    return over_time.cluster(tmp_path)


def nothing_left(cluster):
    return not list(cluster.verify.scratch.glob("*"))


def test_every_object_of_a_sound_set_is_read(over_time, cluster):
    report = verify(cluster, VerifyRequest("all", "objects"))
    assert report.is_good and report.is_finished
    assert [each.state for each in report.sets] == ["good"] * 6
    live = 0
    for each in cluster.storages:
        storage = FileStorage(str(each.data_file), read_only=True)
        live += len(storage)
        storage.close()
    assert report.sets[0].objects == live > 6
    for each in backup_directory(cluster).sets():
        assert (each.verified.depth, each.verified.lost) == ("objects", 0)
    assert nothing_left(cluster)


def test_a_rotten_file_is_found_before_anything_is_restored(
    over_time, cluster, monkeypatch
):
    path = cluster.backup.directory / over_time.made[5].storage("root").files[0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(trial.Trial, "stage", None)
    report = verify(cluster, LATEST)
    assert [each.kind for each in report.costs] == ["data"]
    assert report.sets[0].state == "bad"


def test_a_set_that_does_not_fit_together_is_none(over_time, cluster, monkeypatch):
    """As where a storage's file is that of another moment, though well in itself."""

    def refuse(*_arguments):
        raise NotCoherent("the files do not fit together")

    with monkeypatch.context() as patched:
        patched.setattr(check, "check", refuse)
        report = verify(cluster, LATEST)
    (cost,) = report.costs
    assert (cost.kind, cost.sets) == ("set", (over_time.made[5].id,))
    assert "cannot be restored: the files do not fit together" in cost.what
    assert cost.instead == over_time.made[4].id
    newest = backup_directory(cluster).sets()[0]
    assert not newest.is_whole
    assert nothing_left(cluster)
    assert verify(cluster, LATEST).is_good
    assert backup_directory(cluster).sets()[0].is_whole


def test_no_room_is_said_before_anything_is_written(cluster, monkeypatch):
    usage = shutil.disk_usage(cluster.directory)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoSpace, match="has 1,000 bytes free") as caught:
        verify(cluster, LATEST)
    assert "scratch in [verify]" in caught.value.hint
    assert not cluster.verify.scratch.exists()
    assert results.read(cluster, "verify").last.status == NoSpace.exit_status


def test_a_disk_that_fills_up_amid_it_is_given_back(cluster, monkeypatch):
    def full(_directory, _stored, target):
        target.staged_data_file.parent.mkdir(parents=True)
        target.staged_data_file.write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trial.assemble, "data_file", full)
    with pytest.raises(NoSpace, match="No space left on device") as caught:
        verify(cluster, LATEST)
    assert "scratch in [verify]" in caught.value.hint
    assert nothing_left(cluster)


def test_a_budget_ends_between_storages_and_between_objects(
    over_time, cluster, monkeypatch
):
    monkeypatch.setattr(objects, "_BETWEEN_LOOKS", 2)
    staged, read = [], []
    original_stage, original_read = trial.assemble.data_file, objects._ObjectReader.read

    def stage(directory, stored, target):
        staged.append(stored.id)
        original_stage(directory, stored, target)

    def read_one(reader, oid):
        read.append((reader._id, oid))
        original_read(reader, oid)

    monkeypatch.setattr(trial.assemble, "data_file", stage)
    monkeypatch.setattr(objects._ObjectReader, "read", read_one)
    request = dataclasses.replace(LATEST, budget=NO_TIME)
    counts = []
    while not (report := verify(cluster, request)).is_finished:
        counts.append((len(staged), len(read)))
        assert len(counts) < 200, "each run comes further"
    assert report.is_good
    assert sorted(staged) == ["catalog", "documents", "root"], "each just once"
    assert len(read) == len(set(read)) == report.sets[0].objects
    assert {1, 2, 3} <= {number for number, _ in counts}
    between = {number for _, number in counts}
    assert 0 in between and len(between) > 3, "ended amid the objects of a storage"
    assert nothing_left(cluster)


def test_what_is_left_of_other_sets_is_removed(over_time, cluster):
    left = trial.folder_of(cluster, over_time.made[0].id)
    left.mkdir(parents=True)
    (left / "Data.fs").touch()
    other = cluster.verify.scratch / "of somebody else"
    other.mkdir()
    verify(cluster, LATEST)
    assert [*cluster.verify.scratch.iterdir()] == [other]


def test_killed_before_any_step_the_next_run_comes_to_its_end(over_time, tmp_path):
    recording = over_time.cluster(tmp_path / "recording")
    steps = recorded(lambda: verify(recording, LATEST))
    named = {each.name for each in steps}
    for place in ("trial.write_progress: os.rename", "trial.remove: os.remove"):
        assert any(each.endswith(place) for each in named), place
    for number, step in enumerate(steps):
        cluster = over_time.cluster(tmp_path / str(number))
        assert killed_at(step, lambda c=cluster: verify(c, LATEST)), step
        report = verify(cluster, LATEST)
        assert report.is_good and report.is_finished, step
        assert nothing_left(cluster)
        assert backup_directory(cluster).sets()[0].verified.depth == "objects"


def test_what_is_half_removed_is_never_gone_on_with(tmp_path, monkeypatch):
    trial.write_progress(tmp_path, trial.TrialProgress(staged=("root",), is_cut=True))
    found = []
    monkeypatch.setattr(shutil, "rmtree", lambda each: found.append(each))
    trial.remove(tmp_path)
    assert found == [tmp_path]
    assert trial.read_progress(tmp_path) == trial.TrialProgress()


def test_what_was_staged_under_another_name_is_not_gone_on_with(over_time, cluster):
    """A storage was renamed between two runs: its file lies under its old id."""
    folder = trial.folder_of(cluster, over_time.made[5].id)
    folder.mkdir(parents=True)
    ids = ("catalog", "documents", "of-before")
    trial.write_progress(folder, trial.TrialProgress(staged=ids, is_cut=True))
    report = verify(cluster, LATEST)
    assert report.is_good and report.sets[0].objects > 6
    assert nothing_left(cluster)


def test_what_was_staged_before_counts_as_done(over_time, cluster):
    """So that an operator sees how much of the set is left, not of the run."""
    made = over_time.made[5]
    first, second = (Phase(name, None, "bytes") for name in ("first", "second"))
    with pytest.raises(OutOfTime):
        trial.Trial(cluster, made).stage(TimeBudget(NO_TIME), first)
    size = sum(each.size for each in made.storages)
    assert 0 < first.look()[0] < size
    trial.Trial(cluster, made).stage(TimeBudget(None), second)
    assert second.look()[0] == size


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A set of a cluster whose live data lack what is referred to.

    Storage "root" refers to an object of "catalog" that is not there; only garbage
    does to another; and a blob of "documents" has no file.
    """
    folder = tmp_path_factory.mktemp("damaged")
    with small_cluster(folder) as small:
        connections = open_connections(small.addresses, folder / "client")
        blob = _commit_references(connections)
        for each in connections.values():
            each.close()
            each.db().close()
        cluster = small.cluster()
        # What a pack with garbage collection does to a single storage.
        small.stop()
        storage = FileStorage(str(cluster.storage("catalog").data_file))
        storage.pack(2**40, referencesf)
        storage.close()
        live = cluster.storage("documents").blob_directory
        (path,) = live.glob(f"{blob}/*.blob")
        path.unlink()
        small.start()
        back_up(cluster)
        small.stop()
        yield cluster


def _commit_references(connections):
    """Objects of the catalog, that only the others refer to; and a blob's folder."""
    catalog, root = connections["catalog"], connections["root"]
    documents = connections["documents"]
    for number, name in enumerate(("kept", "lost")):
        transaction.begin()
        target, holder = PersistentMapping(), PersistentMapping({"number": number})
        catalog.add(target)
        root.root()[name] = holder
        holder["target"] = target
        if name == "kept":
            catalog.root()[name] = target
        add_stamp(connections, ["catalog", "root"])
        transaction.commit()
    transaction.begin()
    target, garbage = PersistentMapping(), PersistentMapping()
    catalog.add(target)
    root.root()["garbage"] = garbage
    garbage["target"] = target
    add_stamp(connections, ["catalog", "root"])
    transaction.commit()
    transaction.begin()
    del root.root()["garbage"]
    documents.root()["blob"] = Blob(b"of some length")
    add_stamp(connections, ["documents", "root"])
    transaction.commit()
    oid = documents.root()["blob"]._p_oid
    return "/".join(f"0x{byte:02x}" for byte in oid)


def test_what_the_data_lack_is_named(damaged, monkeypatch, capsys):
    report = verify(damaged, LATEST)
    assert not report.is_good
    assert report.costs == [], "the copies are what was written"
    (result,) = report.sets
    assert result.state == "good"
    said = sorted(f"{each.storage}: {each.what}" for each in result.losses)
    assert len(said) == result.lost == 2
    assert "documents: is a blob, and the set has no 0x00/" in said[0]
    assert "root: refers to 0x" in said[1]
    assert "in catalog, which is not there" in said[1]
    found = backup_directory(damaged).sets()[0]
    assert found.is_whole, "it restores what there was"
    assert (found.verified.depth, found.verified.lost) == ("objects", 2)
    monkeypatch.setattr(front, "open_cluster", lambda _: damaged)
    status = front.main(["verify", "latest", "--depth", "objects"])
    assert status == VerificationFailed.exit_status
    errors = capsys.readouterr().err
    assert "in catalog, which is not there" in errors
    assert "its data lack 2 in all" in errors
    assert front.main(["backups"]) == 0
    assert "objects, 0 min" in capsys.readouterr().out


def test_what_was_found_is_told_again_without_another_restore(
    over_time, cluster, monkeypatch
):
    """A round goes on with the next set, and is no better for that."""
    restored = []

    def restore(_cluster, made, budget, _operation):
        restored.append(made.id)
        if len(restored) == 4:
            raise OutOfTime
        budget.note_progress()
        fault = "cannot be restored: it does not fit" if len(restored) == 1 else None
        lost = (
            [ObjectFault(storage="root", oid="00", what="is gone")] if not fault else []
        )
        return TriedRestore(fault, 7, lost)

    monkeypatch.setattr(restoring, "try_restore", restore)
    ids = [each.id for each in over_time.made[::-1]]
    first = verify(cluster, VerifyRequest("all", "objects"))
    states = ["bad", "good", "good", "unfinished", "good", "good"]
    assert [each.state for each in first.sets] == states
    assert restored == ids
    second = verify(cluster, VerifyRequest("all", "objects"))
    assert restored[6:] == [ids[3]]
    assert second.is_finished and not second.is_good
    assert [each.state for each in second.sets] == ["bad", *["good"] * 5]
    assert [each.lost for each in second.sets] == [0, 1, 1, 1, 1, 1]
    assert [each.what for each in second.costs] == [each.what for each in first.costs]


def test_a_database_by_the_name_that_zope_gives_it(damaged):
    names = objects._name_databases(damaged)
    assert names["main"] == "root"
    assert names["catalog"] == "catalog"
