"""What the hook puts into transactions, over real FileStorages in this process."""

import gc
import logging
import os
import signal
import threading

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from records import read
from transaction._transaction import Transaction
from ZODB.blob import Blob, BlobStorage
from ZODB.DB import TransactionalUndo
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.mvccadapter import MVCCAdapterInstance

import tidstorage
from tidstorage.coherence import stamp, tid
from tidstorage.hook import commit as stamping
from tidstorage.hook import databases, hook

IDS = {"main": "root", "catalog": "catalog"}


@pytest.fixture(autouse=True)
def clean():
    yield
    transaction.abort()
    for site in _sites:
        site.close()
    _sites.clear()
    tidstorage.uninstall()


#: Closed also where a test fails, since open databases are found by the next one.
_sites = []


class Site:
    """A multi-database of FileStorages; ``names`` are database names."""

    def __init__(self, folder, *names):
        _sites.append(self)
        self.folder = folder
        self.databases = {}
        for name in names:
            self.open(name, FileStorage(str(folder / f"{name}.fs")))

    def open(self, name, storage):
        return ZODB.DB(storage, database_name=name, databases=self.databases)

    def connection(self, manager=None):
        return self.databases["main"].open(manager)

    def write(self, *names, manager=None):
        """Commit one transaction that writes the databases of these names."""
        manager = manager or transaction.manager
        connection = self.connection(manager)
        for name in names:
            root = connection.get_connection(name).root()
            root["count"] = root.get("count", 0) + 1
        manager.commit()
        connection.close()

    def records(self, name):
        """(tid, stamp) of each record of one database's file."""
        return read(self.folder / f"{name}.fs")

    def last(self, name):
        return self.records(name)[-1]

    def close(self):
        for database in list(self.databases.values()):
            database.close()


@pytest.fixture
def site(tmp_path):
    tidstorage.install(ids=IDS)
    site = Site(tmp_path, "main", "catalog")
    yield site
    site.close()


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


def test_a_fork_while_the_list_of_databases_is_locked(site):
    known = hook._active.databases
    with known._lock:
        child = os.fork()
        if not child:
            signal.alarm(120)
            try:
                known._changed()
                _id_without_storages()
            except BaseException:
                os._exit(1)
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def _id_without_storages():
    """The id of a commit that is stamped, and then not really made."""
    current = Transaction()
    database = next(iter(hook._active.databases._databases.values()))()
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
    monkeypatch.setattr(os, "urandom", _throw)
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


def test_a_database_that_is_not_listed_is_left_alone_and_named_once(tmp_path, caplog):
    tidstorage.install(ids=IDS)
    site = Site(tmp_path, "main", "catalog", "sessions")
    site.write("main", "sessions")
    site.write("sessions")
    assert site.last("main")[1].participants == {"root"}
    assert "sessions" not in site.last("main")[1].vector
    assert site.last("sessions")[1] is None
    assert caplog.text.count("'sessions' is none of the cluster's") == 1
    site.close()


def test_storages_that_keep_nothing_are_no_members(tmp_path, caplog):
    tidstorage.install()
    site = Site(tmp_path, "main")
    base = FileStorage(str(tmp_path / "base.fs"))
    site.open("mapping", MappingStorage())
    site.open("blobs", BlobStorage(str(tmp_path / "blobs"), MappingStorage()))
    site.open("demo", DemoStorage(base=base))
    site.write("main", "mapping", "blobs", "demo")
    assert site.last("main")[1].participants == {"main"}
    assert set(site.last("main")[1].vector) == {"main"}
    assert not caplog.records
    site.close()


def test_two_databases_of_one_name_stop_stamping_until_one_is_closed(tmp_path, caplog):
    tidstorage.install()
    one, two = Site(tmp_path / "one", "main"), Site(tmp_path / "two", "main")
    one.write("main")
    one.write("main")
    assert one.last("main")[1] is None
    assert caplog.text.count("have one storage id, 'main'") == 1
    assert caplog.records[-1].levelno == logging.ERROR
    two.close()
    one.write("main")
    assert one.last("main")[1].participants == {"main"}
    one.close()


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()


@pytest.mark.parametrize(
    "ids",
    [
        {"main": "root", "catalog": "root"},
        {"main": ""},
        {"main": "x" * 128},
        {"main": "a\nb"},
    ],
)
def test_ids_that_cannot_be(ids):
    with pytest.raises(ValueError, match="storage id"):
        tidstorage.install(ids=ids)
    assert hook._active is None


@pytest.mark.parametrize("address", [("", 1), ("localhost", 0), ("localhost", 70_000)])
def test_addresses_that_cannot_be(address):
    with pytest.raises(ValueError, match="no address"):
        tidstorage.install(address)


def test_databases_that_were_open_before_are_found(tmp_path):
    site, apart = Site(tmp_path, "main"), Site(tmp_path, "catalog")
    tidstorage.install(ids=IDS)
    site.write("main")
    assert set(site.last("main")[1].vector) == {"root", "catalog"}
    site.close()
    apart.close()


def test_databases_that_the_collector_hides_are_found_when_they_join(tmp_path):
    site = Site(tmp_path, "main", "catalog")
    gc.collect()
    gc.freeze()
    try:
        tidstorage.install(ids=IDS)
    finally:
        gc.unfreeze()
    assert not hook._active.databases.list_open().storages
    site.write("main")
    assert set(site.last("main")[1].vector) == {"root", "catalog"}
    site.close()


def test_closed_and_forgotten_databases_leave_the_vector(site):
    site.databases["catalog"].close()
    site.write("main")
    assert set(site.last("main")[1].vector) == {"root"}


def test_databases_are_not_kept_alive(tmp_path):
    tidstorage.install(ids=IDS)
    site = Site(tmp_path, "main")
    site.write("main")
    known = hook._active.databases
    assert len(known.list_open().storages) == 1
    site.databases["main"].storage.close()
    site.databases.clear()
    gc.collect()
    assert not known.list_open().storages


def test_installing_twice_patches_once_and_takes_the_second_configuration(tmp_path):
    plain = Transaction.__dict__["_commitResources"]
    site = Site(tmp_path, "main", "catalog")
    tidstorage.install(ids=IDS)
    patched = Transaction.__dict__["_commitResources"]
    tidstorage.install(ids={"main": "other"})
    assert Transaction.__dict__["_commitResources"] is patched is not plain
    site.write("main", "catalog")
    assert site.last("main")[1].participants == {"other"}
    assert tidstorage.statistics()["stamped"] == 1
    tidstorage.uninstall()
    tidstorage.uninstall()
    assert Transaction.__dict__["_commitResources"] is plain
    site.write("main", "catalog")
    assert site.last("main")[1] is None
    assert tidstorage.statistics() == {}
    site.close()


def test_uninstalling_restores_every_method(tmp_path):
    def methods():
        return [each._owner.__dict__[each._name] for each in hook._patches]

    before = methods()
    tidstorage.install()
    assert not set(before) & set(methods())
    tidstorage.uninstall()
    assert methods() == before


def test_uninstalling_under_a_later_patch_is_quiet_and_not_final(site, monkeypatch):
    ours = Transaction._commitResources
    calls = []

    def later(self):
        calls.append(self)
        ours(self)

    monkeypatch.setattr(Transaction, "_commitResources", later)
    tidstorage.uninstall()
    site.write("main")
    assert site.last("main")[1] is None
    tidstorage.install(ids=IDS)
    site.write("main")
    assert site.last("main")[1] is not None
    assert len(calls) == 2


class Fault(Exception):
    """What is thrown inside the hook."""


def _throw(*arguments, **options):
    raise Fault


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (stamping, "_parts"),
        (stamping, "_bounds_of_connections"),
        (stamping, "_fits"),
        (os, "urandom"),
        (stamp, "assemble"),
        (databases.ClusterDatabases, "list_open"),
        (databases.ClusterDatabases, "add"),
        (databases.ClusterDatabases, "remove"),
        (databases.ClusterDatabases, "_build"),
        (databases, "_layers"),
    ],
)
def test_no_exception_of_ours_breaks_a_commit(
    site, tmp_path, monkeypatch, caplog, owner, name
):
    monkeypatch.setattr(owner, name, _throw)
    site.write("main", "catalog")
    site.write("main", "catalog")
    other = site.open("other", FileStorage(str(tmp_path / "other.fs")))
    with other.transaction() as connection:
        connection.root()["x"] = 1
    other.close()
    monkeypatch.undo()
    assert len(site.records("main")) == 3
    assert len(site.records("other")) == 2
    assert tidstorage.statistics()["errors"] > 0
    assert caplog.text.count("Traceback") <= 2
    site.write("main")
    assert site.last("main")[1] is not None


@pytest.mark.parametrize("name", ["begin", "commit", "abort"])
def test_no_exception_of_the_sender_breaks_a_commit(tmp_path, monkeypatch, name):
    tidstorage.install(("127.0.0.1", 1), ids=IDS)
    site = Site(tmp_path, "main", "catalog")
    monkeypatch.setattr(hook.Sender, name, _throw)
    site.write("main", "catalog")
    current = transaction.get()
    connection = site.connection()
    connection.root()["x"] = 1
    current.join(_RefusesToVote())
    with pytest.raises(_Refused):
        transaction.commit()
    transaction.abort()
    connection.close()
    assert site.last("main")[1].participants == {"root", "catalog"}
    assert tidstorage.statistics()["errors"] > 0
    site.close()


class _Refused(Exception):
    pass


class _RefusesToVote:
    transaction_manager = transaction.manager

    def sortKey(self):
        return "~"

    def tpc_begin(self, transaction):
        pass

    abort = commit = tpc_finish = tpc_abort = tpc_begin

    def tpc_vote(self, transaction):
        raise _Refused


def test_faults_in_containing_a_failure_let_the_failure_out(site, monkeypatch):
    monkeypatch.setattr(hook.failed_commits, "may_spoil_caches", _throw)
    connection = site.connection()
    connection.root()["x"] = 1
    transaction.get().join(_RefusesToVote())
    with pytest.raises(_Refused):
        transaction.commit()
    transaction.abort()
    connection.close()
    assert tidstorage.statistics()["errors"] == 1


class _Told:
    """A sender that remembers."""

    def __init__(self, takes=True):
        self.takes = takes
        self.messages = []

    def begin(self, transaction_id, storages):
        self.messages.append(("BEGIN", transaction_id, set(storages)))
        return self.takes

    def commit(self, transaction_id, tids):
        self.messages.append(("COMMIT", transaction_id, tids))

    def abort(self, transaction_id):
        self.messages.append(("ABORT", transaction_id))

    def close(self, deadline):
        pass


def test_the_daemon_is_told_of_begin_and_commit_with_the_tids_of_the_records(site):
    hook._active.sender = told = _Told()
    site.write("main", "catalog")
    (main, mark), (catalog, _) = site.last("main"), site.last("catalog")
    commit_id = mark.commit_id.hex()
    assert told.messages == [
        ("BEGIN", commit_id, {"root", "catalog"}),
        ("COMMIT", commit_id, {"root": main, "catalog": catalog}),
    ]


def test_undo_has_a_tid_in_the_message_too(site):
    site.write("main")
    main = site.databases["main"]
    hook._active.sender = told = _Told()
    main.undo(main.undoLog(0, 1)[0]["id"])
    transaction.commit()
    assert told.messages[-1][2] == {"root": site.last("main")[0]}


def test_a_storage_that_does_not_tell_its_tid_is_left_out(site, monkeypatch):
    monkeypatch.setattr(MVCCAdapterInstance, "tpc_finish", _plain_finish())
    hook._active.sender = told = _Told()
    site.write("main")
    assert told.messages[-1][0] == "COMMIT"
    assert told.messages[-1][2] == {}


def _plain_finish():
    (patch,) = [each for each in hook._patches if each._owner is MVCCAdapterInstance]
    return patch._original


def test_a_commit_within_a_commit_has_its_own_tids(site):
    hook._active.sender = told = _Told()

    class Nested(_RefusesToVote):
        def sortKey(self):
            return ""  # before any file's path

        def tpc_vote(self, transaction):
            pass

        def tpc_finish(self, transaction_):
            site.write("main", manager=transaction.TransactionManager())

    connection = site.databases["catalog"].open()
    connection.root()["x"] = 1
    transaction.get().join(Nested())
    transaction.commit()
    connection.close()
    ends = [message[2] for message in told.messages if message[0] == "COMMIT"]
    assert ends == [
        {"root": site.last("main")[0]},
        {"catalog": site.last("catalog")[0]},
    ]


def test_a_failed_commit_is_told_as_aborted(site):
    hook._active.sender = told = _Told()
    connection = site.connection()
    connection.root()["x"] = 1
    transaction.get().join(_RefusesToVote())
    with pytest.raises(_Refused):
        transaction.commit()
    transaction.abort()
    connection.close()
    assert [message[0] for message in told.messages] == ["BEGIN", "ABORT"]
    assert told.messages[0][1] == told.messages[1][1]


def test_what_is_left_out_at_its_beginning_has_no_end(site):
    hook._active.sender = told = _Told(takes=False)
    site.write("main")
    assert [message[0] for message in told.messages] == ["BEGIN"]
