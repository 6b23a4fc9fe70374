"""What the hook puts into transactions, over real FileStorages in this process."""

import os
import threading

import pytest
import transaction
import ZODB
from hooked_site import IDS, Site, throw
from persistent.mapping import PersistentMapping
from transaction._transaction import Transaction
from ZODB.blob import Blob, BlobStorage
from ZODB.DB import TransactionalUndo
from ZODB.FileStorage import FileStorage

import tidstorage
from tidstorage.coherence import stamp, tid
from tidstorage.hook import hook


def test_both_records_carry_one_commit_id_and_both_participants(site):
    site.write("main", "catalog")
    (_, main), (_, catalog) = site.last("main"), site.last("catalog")
    assert main == catalog
    assert main.participants == {"root", "catalog"}


def test_the_vector_tells_what_was_there_before(site):
    before = {"root": site.last("main")[0], "catalog": site.last("catalog")[0]}
    site.write("main")
    number, mark = site.last("main")
    assert mark.participants == {"root"}
    assert mark.vector == {each: before[each] + 1 for each in before}
    assert number >= mark.vector["root"]


def test_the_vector_covers_databases_that_no_connection_is_open_for(tmp_path):
    tidstorage.install(ids={**IDS, "media": "media"})
    site = Site(tmp_path, "main", "catalog")
    apart = ZODB.DB(FileStorage(str(tmp_path / "media.fs")), database_name="media")
    site.write("main")
    seen = tid.from_bytes(apart.storage.lastTransaction())
    assert site.last("main")[1].vector["media"] == seen + 1
    apart.close()
    site.close()


def test_a_connection_closed_inside_the_transaction_counts(site):
    site.write("catalog")
    written = site.last("catalog")[0]
    reading = site.databases["catalog"].open()
    value = reading.root()["count"]
    reading.close()
    with site.databases["main"].transaction() as connection:
        connection.root()["copied"] = value
    assert site.last("main")[1].vector["catalog"] == written + 1


def test_a_connection_that_is_ahead_of_its_storage_counts(site):
    # ZEO tells connections of a transaction before its last TID moves.
    connection = site.connection()
    storage = connection._normal_storage
    ahead = tid.from_bytes(storage._start) + 1_000
    storage._start = tid.to_bytes(ahead)
    connection.get_connection("catalog").root()["x"] = 1
    transaction.commit()
    connection.close()
    assert site.last("catalog")[1].vector["root"] == ahead


def test_what_was_seen_is_never_unseen(site, monkeypatch):
    # A ZEO client whose cache is cleared while it reconnects says TID zero.
    site.write("main")
    known = site.last("main")[0]
    (main,) = [
        each
        for each in hook._active.databases.list_open().storages
        if each.storage_id == "root"
    ]
    site.write("catalog")
    monkeypatch.setattr(main, "last_transaction", lambda: bytes(8))
    manager = transaction.TransactionManager()
    connection = site.databases["catalog"].open(manager)
    connection.root()["x"] = 1
    manager.commit()
    connection.close()
    assert site.last("catalog")[1].vector["root"] == known + 1


def test_explicit_mode_and_historical_connections(site):
    manager = transaction.TransactionManager(explicit=True)
    main = site.databases["main"]
    connection = main.open(manager)
    past = main.open(manager, at=main.lastTransaction())
    other = site.databases["catalog"].open(manager)
    manager.begin()
    # As it is on a new connection that was opened after begin.
    connection._normal_storage._start = None
    other.root()["x"] = 1
    manager.commit()
    for each in (connection, past, other):
        each.close()
    last = tid.from_bytes(site.databases["main"].lastTransaction())
    assert site.last("catalog")[1].vector["root"] == last + 1


def test_a_storage_with_an_mvcc_of_its_own_knows_its_last_poll(site):
    connection = site.connection()

    class Polled:
        """Like RelStorage: no _start, and a shared storage that is stale."""

        def lastTransaction(self):
            return tid.to_bytes(2**62)

    normal, connection._normal_storage = connection._normal_storage, Polled()
    try:
        connection.get_connection("catalog").root()["x"] = 1
        transaction.commit()
    finally:
        connection._normal_storage = normal
    connection.close()
    assert site.last("catalog")[1].vector["root"] == 2**62 + 1


def test_a_database_that_was_only_read_is_no_participant(site):
    connection = site.connection()
    connection.get_connection("catalog").root().get("x")
    connection.root()["x"] = 1
    transaction.commit()
    connection.close()
    assert site.last("main")[1].participants == {"root"}


def test_one_database_opened_twice_in_a_transaction(site):
    first, second = site.connection(), site.connection()
    first.root()["x"] = second.root().get("x", 0) + 1
    transaction.commit()
    first.close()
    second.close()
    assert site.last("main")[1].participants == {"root"}


def test_savepoints(site):
    connection = site.connection()
    connection.root()["x"] = PersistentMapping()
    transaction.savepoint()
    point = transaction.savepoint()
    connection.get_connection("catalog").root()["x"] = 1
    point.rollback()
    connection.root()["y"] = 1
    transaction.commit()
    connection.close()
    assert site.last("main")[1].participants == {"root"}


def test_undo_is_a_participant(site):
    site.write("main", "catalog")
    main = site.databases["main"]
    manager = transaction.TransactionManager()
    main.undo(main.undoLog(0, 1)[0]["id"], manager.get())
    with_undo = site.databases["catalog"].open(manager)
    with_undo.root()["x"] = 1
    manager.commit()
    with_undo.close()
    assert site.last("main")[1] == site.last("catalog")[1]
    assert site.last("main")[1].participants == {"root", "catalog"}


def test_a_blob(tmp_path):
    tidstorage.install(ids=IDS)
    site = Site(tmp_path, "catalog")
    file = FileStorage(str(tmp_path / "main.fs"))
    site.open("main", BlobStorage(str(tmp_path / "blobs"), file))
    connection = site.connection()
    connection.root()["blob"] = Blob(b"much")
    connection.get_connection("catalog").root()["x"] = 1
    transaction.commit()
    connection.close()
    assert site.last("main")[1].participants == {"root", "catalog"}
    site.close()


def test_a_transaction_that_writes_nothing_is_left_alone(site):
    before = tidstorage.statistics()
    connection = site.connection()
    connection.root().get("x")
    current = transaction.get()
    extensions = []
    current.addAfterCommitHook(lambda ok: extensions.append(dict(current.extension)))
    transaction.commit()
    connection.close()
    assert extensions == [{}]
    assert tidstorage.statistics() == before


def test_each_commit_has_its_own_id(site):
    threads = [threading.Thread(target=_write_twenty, args=(site,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [mark.commit_id for _, mark in site.records("main")]
    assert len(set(ids)) == len(ids) == 1 + 80
    assert ids[1:] == [mark.commit_id for _, mark in site.records("catalog")][1:]


def _write_twenty(site):
    manager = transaction.TransactionManager()
    written = 0
    while written < 20:
        try:
            site.write("main", "catalog", manager=manager)
        except ZODB.POSException.ConflictError:
            manager.abort()
        else:
            written += 1


def test_ids_stay_unique_over_a_fork(site, tmp_path):
    drawn = tmp_path / "drawn"
    child = os.fork()
    if not child:
        try:
            drawn.write_text(_id_without_storages())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert drawn.read_text() != _id_without_storages()


def _id_without_storages():
    """The id of a commit that is stamped, and then not really made."""
    current = Transaction()
    database = next(iter(hook._active.databases._known))()
    current._resources.append(TransactionalUndo(database, []))
    hook._active.commit_resources(current, lambda transaction: None)
    return stamp.decode(current.extension[stamp.KEY]).commit_id.hex()


def test_a_failed_commit_leaves_no_stamp_behind_and_the_next_try_has_a_new_id(site):
    first, second = (transaction.TransactionManager() for _ in range(2))
    one, two = site.connection(first), site.connection(second)
    one.root()["x"], two.root()["x"] = 1, 2
    first.commit()
    failing = second.get()
    stamps = []
    failing.addBeforeCommitHook(lambda: stamps.append(dict(failing.extension)))
    with pytest.raises(ZODB.POSException.ConflictError):
        second.commit()
    assert stamp.KEY not in failing.extension
    second.abort()
    two.root()["x"] = 2
    second.commit()
    ids = {mark.commit_id for _, mark in site.records("main")}
    assert len(ids) == 3
    one.close()
    two.close()


def test_the_extension_of_others_is_kept(site):
    transaction.get().setExtendedInfo("color", "blue")
    transaction.get().setExtendedInfo(stamp.KEY, b"of another transaction")
    site.write("main")
    storage = site.databases["main"].storage
    last = list(storage.iterator(storage.lastTransaction()))[-1]
    assert last.extension["color"] == "blue"
    assert stamp.decode(last.extension[stamp.KEY]).participants == {"root"}


def test_the_stamp_of_another_transaction_is_never_passed_on(site, monkeypatch):
    monkeypatch.setattr(os, "urandom", throw)
    other = site.last("main")[1]
    old = stamp.encode(other.commit_id, other.participants, other.vector)
    transaction.get().setExtendedInfo(stamp.KEY, old)
    site.write("main")
    assert site.last("main")[1] is None


@pytest.mark.parametrize("length", [65_400, 65_480])
def test_what_would_fit_without_a_stamp_is_committed_without_one(site, length, caplog):
    for _ in range(2):
        transaction.get().setExtendedInfo("large", "x" * length)
        site.write("main")
    stamped = length == 65_400
    assert (site.last("main")[1] is not None) == stamped
    assert tidstorage.statistics()["unstamped"] == (0 if stamped else 2)
    assert caplog.text.count("would have more than 65535") == (0 if stamped else 1)
