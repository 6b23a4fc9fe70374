"""Where a storage ends: votes that a killed server forgot, and files that lost their
name under it.  The servers are plain runzeo, which mend nothing before they start."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import ZEO
from small_cluster import SmallCluster, small_cluster
from ZODB.Connection import TransactionMetaData

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.record import Record
from tidstorage.coherence.stamp import Stamp
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage.abandoned_votes import (
    AbandonedVote,
    note_abandoned_vote,
    noted_path,
    read_abandoned_votes,
)
from tidstorage.engines.filestorage.records import records_up_to
from tidstorage.errors import BarrierFailed, DataFileLost
from tidstorage.sets.manifest import Manifest
from tidstorage.system.address import Address
from tidstorage.verbs.backup import set_point
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.backup.doubt import find_doubts
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere
from tidstorage.zeo import seal

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallCluster]:
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


def vote(small: SmallCluster, storage: str, *, data: bool) -> object:
    """A client that has voted and goes no further."""
    client = ZEO.client(small.addresses[storage], storage=storage)
    transaction = TransactionMetaData()
    client.tpc_begin(transaction)
    if data:
        client.store(client.new_oid(), b"\0" * 8, b"never finished", "", transaction)
    client.tpc_vote(transaction)
    return client


def kill_amid_vote(small: SmallCluster, *, data: bool) -> None:
    """The server of documents; it is started again, and says that vote's TID."""
    client = vote(small, "documents", data=data)
    small.beta.kill()
    with contextlib.suppress(Exception):
        client.close()
    small.beta.start()


def write_elsewhere(small: SmallCluster, seed: int, count: int) -> None:
    """Commits by a process that saw how documents ends, and does not write it."""
    small.write(seed, count, group=["catalog", "root"])


def last_tids(made: Manifest, into: Path) -> dict[str, int]:
    return {
        storage.id: filestorage.last_tid(into / storage.id / "Data.fs")
        for storage in made.storages
    }


def assert_holds_all(cluster: Cluster, made: Manifest, into: Path) -> None:
    """The set is verified, and brings every transaction back."""
    live = {
        storage.id: filestorage.last_tid(storage.data_file)
        for storage in cluster.storages
    }
    assert made.point.verified and not made.point.damage
    restore_elsewhere(cluster, Request(set_id=made.id), into)
    assert last_tids(made, into) == live


@pytest.mark.parametrize("data", [True, False], ids=["full", "empty"])
@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "once"])
def test_no_acknowledged_commit_is_left_out_after_a_kill_amid_a_vote(
    small: SmallCluster, tmp_path: Path, data: bool, restarted: bool
) -> None:
    cluster = small.cluster()
    back_up(cluster)
    kill_amid_vote(small, data=data)
    write_elsewhere(small, 2, 8)
    if restarted:
        small.beta.stop()
        small.beta.start()
    before = cluster.storage("documents").data_file.stat().st_size
    assert_holds_all(cluster, back_up(cluster), tmp_path / "first")
    write_elsewhere(small, 3, 3)
    assert_holds_all(cluster, back_up(cluster), tmp_path / "second")
    # Sealed once, and only where nothing else tells what it was.
    grown = cluster.storage("documents").data_file.stat().st_size > before
    assert grown == (restarted and not data)


def test_a_storage_is_sealed_once_for_a_doubt(
    small: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed: list[str] = []
    real = seal.seal

    def counting(address: Address, name: str, storage_id: str, *, server: str) -> int:
        sealed.append(storage_id)
        return real(address, name, storage_id, server=server)

    monkeypatch.setattr("tidstorage.verbs.backup.doubt.seal", counting)
    cluster = small.cluster()
    back_up(cluster)
    kill_amid_vote(small, data=False)
    write_elsewhere(small, 2, 4)
    small.beta.stop()
    small.beta.start()
    for seed in (3, 4, 5):
        back_up(cluster)
        write_elsewhere(small, seed, 2)
    assert sealed == ["documents"]


def test_without_a_barrier_a_doubt_is_said_and_not_verified(
    small: SmallCluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = small.cluster()
    back_up(cluster)
    kill_amid_vote(small, data=False)
    write_elsewhere(small, 2, 4)
    small.beta.stop()
    small.beta.start()

    def give_up(*_arguments: object) -> None:
        raise BarrierFailed("somebody holds a vote")

    monkeypatch.setattr(set_point.barrier, "take_instant", give_up)
    made = back_up(cluster)
    assert not made.point.verified
    said = [text for text in caplog.messages if "left out" in text]
    assert len(said) == 1 and "documents" in said[0]


def test_a_file_that_was_replaced_under_its_server_is_refused(
    small: SmallCluster, tmp_path: Path
) -> None:
    cluster = small.cluster()
    back_up(cluster)
    path = cluster.storage("catalog").data_file
    shutil.copy2(path, tmp_path / "copy")
    path.rename(tmp_path / "former")
    (tmp_path / "copy").rename(path)
    small.write(2, 6)
    sets = len(list(cluster.backup.directory.glob("sets/*/manifest.json")))
    with pytest.raises(DataFileLost, match="it writes another file"):
        back_up(cluster)
    assert len(list(cluster.backup.directory.glob("sets/*/manifest.json"))) == sets


class TestNotedVotes:
    """``<Data.fs>.abandoned``, without a server."""

    def test_is_noted_once_and_read_again(self, tmp_path: Path) -> None:
        path = tmp_path / "Data.fs"
        path.touch()
        vote = AbandonedVote(0x0310, 400)
        assert note_abandoned_vote(path, vote)
        assert not note_abandoned_vote(path, vote)
        assert note_abandoned_vote(path, AbandonedVote(0x0311, 500))
        assert list(read_abandoned_votes(path)) == [vote, AbandonedVote(0x0311, 500)]
        assert json.loads(noted_path(path).read_text()) == {
            "version": 1,
            "votes": [
                {"tid": "0x0000000000000310", "position": 400},
                {"tid": "0x0000000000000311", "position": 500},
            ],
        }

    def test_a_broken_note_proves_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "Data.fs"
        noted_path(path).write_text("{")
        assert list(read_abandoned_votes(path)) == []

    def test_a_vote_counts_only_where_the_file_ends(self, small: SmallCluster) -> None:
        cluster = small.cluster()
        path = cluster.storage("catalog").data_file
        with filestorage.DataFile(path) as opened:
            last, before = [
                one for _, one in zip("ab", opened.backward(), strict=False)
            ]
        above = last.tid + 5
        note_abandoned_vote(path, AbandonedVote(above, before.end))
        assert records_up_to(path, 0, last.tid, {})[-1].tid == last.tid
        note_abandoned_vote(path, AbandonedVote(above, last.end))
        assert records_up_to(path, 0, last.tid, {})[-1] == Record(above)
        # One that came after it, by a clock set back, is not covered with it.
        assert records_up_to(path, 0, before.tid, {})[-1].tid == before.tid


def test_only_what_others_saw_above_an_end_is_in_doubt() -> None:
    saw = Stamp(bytes(16), frozenset({"a"}), {"a": 4, "b": 8})
    records = {"a": [Record(4, saw)], "b": [Record(7)]}
    assert find_doubts(records, {"a": 0, "b": 0}, {}) == {}
    records = {"a": [Record(4, saw)], "b": [Record(6)]}
    assert find_doubts(records, {"a": 0, "b": 0}, {}) == {"b": 7}
    assert find_doubts({"a": [Record(4, saw)], "b": []}, {"a": 0, "b": 7}, {}) == {}
