"""Which point a backup takes: half commits, stamps, what was lost, the journal."""

import dataclasses

import pytest
import records
from backup_sets import pack, whole_sets
from daemons import journal_entries
from small_cluster import small_cluster
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData

from tidstorage.errors import BarrierFailed, EngineFailed, FloorNeeded
from tidstorage.points import journal
from tidstorage.points.beside import point_path, read_point, write_beside
from tidstorage.points.entries import Acknowledgement, Damage
from tidstorage.system import clock
from tidstorage.verbs.backup import complete
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_elsewhere,
    restore_in_place,
)
from tidstorage.zeo import barrier

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path):
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


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
    assert read_point(point_path(cluster.storages[0].data_file)) == clean.point
    # Not even by the next backup, which finds nothing new.
    assert back_up(cluster).point.damage == (half,)


def noted(cluster):
    return [
        (type(entry), entry.half_commit.commit_id)
        for entry in journal_entries(cluster.daemon.journal)
        if isinstance(entry, Damage)
    ]


def test_the_journal_learns_of_half_commits_once(small):
    """Also of one that only the barrier proves, without any daemon."""
    cluster = small.cluster()
    small.write(4, 1, half=["catalog", "root"])
    made = back_up(cluster)
    (half,) = made.point.damage
    assert noted(cluster) == [(Damage, half.commit_id)]
    (entry,) = journal_entries(cluster.daemon.journal)
    assert (entry.half_commit, made.id in entry.proof) == (half, True)
    assert back_up(cluster).point.damage == (half,)
    assert len(noted(cluster)) == 1
    accepted = Acknowledgement(clock.now(), half.commit_id, "somebody")
    journal.append(cluster.daemon.journal, accepted)
    last = back_up(cluster)
    assert (last.point.damage, last.acknowledged) == ((), (half.commit_id,))
    assert read_point(point_path(cluster.storages[0].data_file)) == last.point
    restore_elsewhere(cluster, Request(), small.folder / "restored")


def test_a_broken_journal_is_no_reason_to_go_without_a_backup(small, caplog):
    cluster = small.cluster()
    small.write(4, 1, half=["catalog", "root"])
    cluster.daemon.journal.write_text("{broken\n")
    made = back_up(cluster)
    assert len(made.point.damage) == 1
    assert "accepted count as damage" in caplog.text
    assert made.point.damage[0].commit_id.hex() in cluster.daemon.journal.read_text()


@pytest.fixture
def no_barrier(monkeypatch):
    def fail(*_arguments, **_options):
        raise BarrierFailed("no barrier in 5 attempts")

    monkeypatch.setattr(barrier, "take_instant", fail)


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


def test_a_renamed_storage_makes_no_half_commits(small):
    """The point beside is of before; what it covers is not examined again."""
    small.write(2, 6, group=["catalog", "documents", "root"])
    cluster = small.cluster()
    made = back_up(cluster)
    vector = dict(made.point.vector)
    vector["of old"] = vector.pop("documents")
    before = dataclasses.replace(made.point, vector=vector)
    write_beside(before, [each.data_file for each in cluster.storages])
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
    restore_in_place(cluster, Request(policy="strict"))


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
    assert not point_path(cluster.storages[0].data_file).exists()


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
    restore_elsewhere(cluster, Request(), small.folder / "restored")
    assert back_up(cluster).kind == "unchanged"


def test_the_set_stands_where_its_point_cannot_be_kept(small, monkeypatch):
    cluster = small.cluster()

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(complete, "write_beside", full)
    with pytest.raises(EngineFailed, match="is whole, but its point"):
        back_up(cluster)
    assert len(whole_sets(cluster)) == 1
