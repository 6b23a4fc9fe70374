"""How an observer gets what it has not seen, and how much at once."""

import contextlib
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace

import pytest
from ZEO.Exceptions import ServerException
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage

from tidstorage.coherence import tid
from tidstorage.daemon import fetching
from tidstorage.daemon.fetching import HistoryChanged, fetch
from tidstorage.engines.filestorage import read_records


class Server:
    """What a server tells of a storage, from a list of TIDs; packed: of how many."""

    def __init__(self, tids, packed=0):
        self.tids = tids
        self.packed = packed

    def last_tid(self):
        return self.tids[-1]

    def newest(self, count):
        newest_first = self.tids[: self.packed - 1 if self.packed else None : -1]
        return [{"id": b64encode(tid.to_bytes(each))} for each in newest_first[:count]]

    @contextlib.contextmanager
    def transactions(self, start=0):
        yield iter(
            SimpleNamespace(
                tid=tid.to_bytes(each),
                extension={},
                status="p" if number < self.packed else " ",
            )
            for number, each in enumerate(self.tids)
            if each >= start
        )


class Packing(Server):
    """A server that packs: undoLog is of no use."""

    def newest(self, count):
        raise ServerException("ZODB.POSException.UndoError", ("packing",))


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
            Packing(tids),
            after,
            anchor=after,
            expected=1,
            limit=3,
            aliases={},
            data_file=data_file if local else None,
        )
        assert 0 < len(fetched.records) <= 3 and not fetched.complete
        seen += [each.tid for each in fetched.records]
        after = seen[-1]
    assert seen == tids[2:]


MANY = 2000


@pytest.mark.parametrize("newer", [1, 20, MANY])
def test_a_record_that_was_seen_and_is_not_there_ends_the_history(newer):
    server = Server([1, 2, *range(11, 11 + newer)])
    with pytest.raises(HistoryChanged):
        fetch(server, 3, anchor=3, expected=1, limit=5, aliases={})
    # Unless only the last TID is known, and that may be the TID of no record.
    assert (
        fetch(server, 3, anchor=None, expected=1, limit=5, aliases={}).records[0].tid
        == 11
    )
    assert (
        fetch(server, 2, anchor=2, expected=1, limit=5, aliases={}).records[0].tid == 11
    )


def test_nor_where_the_file_is_here_and_much_is_newer(data_file, monkeypatch):
    monkeypatch.setattr(fetching, "_LARGEST_BATCH", 5)
    tids = tids_in(data_file)
    lost = tids[1] + 1
    with pytest.raises(HistoryChanged):
        fetch(
            Server(tids),
            lost,
            anchor=lost,
            expected=1,
            limit=9,
            aliases={},
            data_file=data_file,
        )
    assert fetch(
        Server(tids),
        tids[1],
        anchor=tids[1],
        expected=1,
        limit=9,
        aliases={},
        data_file=data_file,
    ).records


def test_a_storage_that_begins_after_what_was_seen_is_another():
    with pytest.raises(HistoryChanged):
        fetch(Server([11, 12]), 3, anchor=3, expected=9, limit=5, aliases={})


@pytest.mark.parametrize(
    ("packed", "newer"), [(1, 1), (2, 1), (2, 9), (3, 9), (9, 9), (900, MANY)]
)
def test_a_record_that_a_pack_has_taken_away_ends_nothing(packed, newer):
    tids = [2, *range(11, 11 + newer)]
    fetched = fetch(
        Server(tids, packed), 3, anchor=3, expected=1, limit=9999, aliases={}
    )
    assert [each.tid for each in fetched.records] == tids[1:]


def test_during_a_pack_nothing_is_known_of_it():
    assert (
        fetch(Packing([1, 5]), 3, anchor=3, expected=1, limit=9, aliases={})
        .records[0]
        .tid
        == 5
    )


def test_an_iteration_that_ends_early_tells_nothing():
    fetched = fetch(Packing([1]), 2, anchor=2, expected=1, limit=9, aliases={})
    assert not fetched.records and not fetched.complete


def packed_after(server, after, **options):
    fetched = fetch(
        server, after, anchor=after, expected=1, limit=9999, aliases={}, **options
    )
    return fetched.packed


def test_how_far_a_pack_has_gone_beyond_what_was_seen():
    """It marks what it leaves, and leaves nothing of a record without objects."""
    tids = [2, 5, 8, 11]
    assert packed_after(Server(tids), 2) == 0
    assert packed_after(Server(tids, 1), 2) == 4
    assert packed_after(Server(tids, 3), 2) == 10
    assert packed_after(Server(tids, 4), 2) == tid.LAST
    # What was seen last is gone, or it is the last.
    assert packed_after(Server(tids, 2), 3) == 7
    assert packed_after(Server(tids, 4), 11) == tid.LAST
    # It has not come so far.
    assert packed_after(Server(tids, 1), 5) == 0


def test_in_a_file_on_this_machine_too(data_file):
    tids = tids_in(data_file)
    positions = [each.position for each in read_records(data_file)]
    with data_file.open("r+b") as stream:
        for position in positions[:5]:
            # Where the status is: as a pack marks it.
            stream.seek(position + 16)
            stream.write(b"p")
    server = Server(tids, 5)
    assert packed_after(server, tids[1], data_file=data_file) == tids[5] - 1
    assert packed_after(server, tids[1] + 1, data_file=data_file) == tids[5] - 1
    assert packed_after(server, tids[5], data_file=data_file) == 0


def test_an_iteration_to_the_end_shows_that_nothing_is_there():
    for data_file in (None, Path("nowhere")):
        fetched = fetch(
            Server([1, 2], 2),
            2,
            anchor=2,
            expected=1,
            limit=9,
            aliases={},
            data_file=data_file,
        )
        assert fetched.exhausted and not fetched.records


def test_a_file_that_the_server_does_not_write_is_not_read(data_file):
    """Replaced by name by an older copy: the server has gone on elsewhere."""
    tids = tids_in(data_file)
    server = Packing([*tids, tids[-1] + 5])
    options = {"expected": 1, "limit": 99, "aliases": {}, "data_file": data_file}
    fetched = fetch(server, tids[3], anchor=tids[3], **options)
    assert [each.tid for each in fetched.records] == [*tids[4:], tids[-1] + 5]
