"""Packs above the last point, by zeopack or ``db.pack``: nothing hidden or invented."""

import contextlib
import os

import pytest
import ZEO
from backup_sets import backup_directory
from ZODB.Connection import TransactionMetaData

from tidstorage.coherence import stamp, tid
from tidstorage.engines.filestorage import packed_above, packed_up_to
from tidstorage.errors import Damaged, NotCoherent
from tidstorage.points.beside import point_path, read_point
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.damage import findings
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere

pytestmark = pytest.mark.integration
ALL = ["catalog", "documents", "root"]


def pack_from_outside(small, storage):
    client = ZEO.client(small.addresses[storage], storage=storage)
    with contextlib.closing(client):
        client.pack(wait=True)


def commit_without_objects(small, count, *storages, objects=()):
    """Whole stamped transactions that leave an empty record in some storages.

    objects: the storages in which an object is written.
    """
    with contextlib.ExitStack() as stack:
        clients = {
            storage: stack.enter_context(
                contextlib.closing(ZEO.client(address, storage=storage))
            )
            for storage, address in small.addresses.items()
        }
        for _ in range(count):
            seen = {
                storage: tid.from_bytes(client.lastTransaction()) + 1
                for storage, client in clients.items()
            }
            data = stamp.encode(os.urandom(16), storages, seen)
            metadata = TransactionMetaData(extension={stamp.KEY: data})
            for storage in storages:
                client = clients[storage]
                client.tpc_begin(metadata)
                if storage in objects:
                    client.store(client.new_oid(), bytes(8), b"x", "", metadata)
            for storage in storages:
                clients[storage].tpc_vote(metadata)
            for storage in storages:
                clients[storage].tpc_finish(metadata)


def floor_of(cluster):
    return read_point(point_path(cluster.storages[0].data_file))


def test_an_unaccepted_half_commit_outlives_the_pack_of_another_storage(small):
    cluster = small.cluster()
    small.write(1, 4, group=ALL)
    back_up(cluster)
    small.write(2, 1, half=["catalog", "root"])
    small.write(3, 5, group=ALL)
    (half,) = back_up(cluster).point.damage
    floor = floor_of(cluster)
    pack_from_outside(small, "documents")
    small.write(4, 3, group=["documents", "root"])
    made = back_up(cluster)
    assert made.point.damage == (half,)
    assert floor_of(cluster) == floor
    assert [each.half_commit for each in findings.find(cluster).found] == [half]
    with pytest.raises(Damaged, match=half.commit_id.hex()) as asked:
        restore_elsewhere(cluster, Request(), small.folder / "asked")
    assert "--strict cannot be had of this set: documents was packed" in str(
        asked.value
    )
    # What was packed away cannot be left out: an earlier set can.
    with pytest.raises(NotCoherent, match="documents was packed above"):
        restore_elsewhere(cluster, Request(policy="strict"), small.folder / "strict")


@pytest.mark.parametrize("journal", ["there", "lost"])
def test_it_outlives_a_pack_that_takes_its_own_record(small, journal):
    """Nobody can see it any more, and it is torn all the same."""
    cluster = small.cluster()
    small.write(1, 4, group=ALL)
    back_up(cluster)
    floor = floor_of(cluster)
    # Its object is written once more, so that a pack takes the whole record.
    small.write(2, 1, half=["catalog", "root"])
    small.write(3, 5, group=ALL)
    (half,) = back_up(cluster).point.damage
    pack_from_outside(small, "catalog")
    if journal == "lost":
        cluster.daemon.journal.unlink()
    small.write(4, 3, group=ALL)
    made = back_up(cluster)
    assert made.point.damage == (half,) and floor_of(cluster) == floor
    # And the next one, of which that set is the only witness.
    assert back_up(cluster).point.damage == (half,)


def test_empty_records_that_a_pack_took_make_no_half_commits(small):
    """Nothing above the floor is marked: what was there is gone as a whole."""
    cluster = small.cluster()
    small.write(1, 4, group=ALL)
    back_up(cluster)
    floor = floor_of(cluster).vector["documents"]
    commit_without_objects(small, 3, "documents", "root", objects=["root"])
    pack_from_outside(small, "documents")
    data_file = cluster.storage("documents").data_file
    assert packed_above(data_file, floor) == 0
    small.write(2, 3, group=ALL)
    assert packed_up_to(data_file, floor) > floor
    found = findings.find(cluster)
    assert not found.found and len(found.unknown) == 3
    made = back_up(cluster)
    assert not made.point.damage and len(made.unknown) == 3
    restore_elsewhere(cluster, Request(), small.folder / "restored")
    # From here on all is seen again.
    small.write(3, 1, half=["catalog", "documents"])
    small.write(4, 3, group=ALL)
    made = back_up(cluster)
    assert len(made.point.damage) == 1 and not made.unknown


def test_what_may_be_whole_is_said(small, caplog):
    """No daemon saw it: whether it was torn before the pack, nobody can tell."""
    cluster = small.cluster()
    small.write(1, 4, group=ALL)
    back_up(cluster)
    small.write(2, 5, group=["catalog", "root"])
    pack_from_outside(small, "root")
    small.write(3, 2, group=ALL)
    found = findings.find(cluster)
    assert not found.found and found.unexamined is None
    assert {each.unseen for each in found.unknown} == {("root",)}
    made = back_up(cluster)
    assert made.unknown and not made.point.damage
    assert "may be whole or not: what root held" in caplog.text
    restore_elsewhere(cluster, Request(), small.folder / "restored")
    assert all(each.is_whole for each in backup_directory(cluster).sets())


def test_a_last_record_that_a_pack_took_is_no_lost_timeline(small, caplog):
    """Others had seen it, and its server has forgotten it since."""
    cluster = small.cluster()
    small.write(1, 4, group=ALL)
    back_up(cluster)
    commit_without_objects(small, 1, "documents", "root", objects=["root"])
    commit_without_objects(small, 2, "root", objects=["root"])
    pack_from_outside(small, "documents")
    small.beta.stop()
    small.beta.start()
    made = back_up(cluster)
    assert made.point.verified and not made.point.damage
    assert "saw what is not there" not in caplog.text
    restore_elsewhere(cluster, Request(), small.folder / "restored")
