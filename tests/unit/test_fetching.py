"""How an observer gets what it has not seen, and how much at once."""

from types import SimpleNamespace

import pytest
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.POSException import UndoError

from tidstorage import tid
from tidstorage.daemon.fetching import HistoryChanged, fetch


class Packing:
    """A server that packs: undoLog is of no use."""

    def __init__(self, tids, status=" "):
        self.tids = tids
        self.status = status

    def _call(self, method, *arguments):
        raise UndoError("packing")

    def iterator(self, start):
        return iter(
            SimpleNamespace(tid=tid.to_bytes(each), extension={}, status=self.status)
            for each in self.tids
            if each >= tid.from_bytes(start)
        )


@pytest.fixture
def data_file(tmp_path):
    path = tmp_path / "Data.fs"
    storage = FileStorage(str(path))
    for _ in range(9):
        transaction = TransactionMetaData()
        storage.tpc_begin(transaction)
        storage.store(storage.new_oid(), b"\0" * 8, b"x", "", transaction)
        storage.tpc_vote(transaction)
        storage.tpc_finish(transaction)
    storage.close()
    return path


def tids_in(path):
    storage = FileStorage(str(path), read_only=True)
    found = [tid.from_bytes(each.tid) for each in storage.iterator()]
    storage.close()
    return found


@pytest.mark.parametrize("local", [False, True])
def test_no_more_is_read_than_there_is_room_for(data_file, local):
    tids = tids_in(data_file)
    after = tids[1]
    seen = []
    while len(seen) < 7:
        fetched = fetch(
            Packing(tids), after, after, 1, 3, {}, data_file if local else None
        )
        assert 0 < len(fetched.records) <= 3 and not fetched.complete
        seen += [each.tid for each in fetched.records]
        after = seen[-1]
    assert seen == tids[2:]


@pytest.mark.parametrize("local", [False, True])
def test_a_record_that_was_seen_and_is_not_there_ends_the_history(data_file, local):
    tids = tids_in(data_file)
    lost = tids[1] + 1
    with pytest.raises(HistoryChanged):
        fetch(Packing(tids), lost, lost, 1, 3, {}, data_file if local else None)
    # Unless only the last TID is known, and that may be the TID of no record.
    assert fetch(Packing(tids), lost, None, 1, 3, {}).records[0].tid == tids[2]


def test_a_record_that_a_pack_has_taken_away_ends_nothing():
    packed = Packing([1, 3], status="p")
    assert [each.tid for each in fetch(packed, 2, 2, 1, 9, {}).records] == [3]


def test_an_iteration_that_ends_early_tells_nothing():
    fetched = fetch(Packing([1]), 2, 2, 1, 9, {})
    assert not fetched.records and not fetched.complete
