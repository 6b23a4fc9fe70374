"""Faults inside the hook break no commit, and what the daemon is told of commits."""

import os

import pytest
import transaction
from hooked_site import IDS, Refused, RefusesToVote, Site, throw
from ZODB.FileStorage import FileStorage
from ZODB.mvccadapter import MVCCAdapterInstance

import tidstorage
from tidstorage.coherence import stamp
from tidstorage.hook import commit as stamping
from tidstorage.hook import databases, hook


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
    monkeypatch.setattr(owner, name, throw)
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
    monkeypatch.setattr(hook.Sender, name, throw)
    site.write("main", "catalog")
    current = transaction.get()
    connection = site.connection()
    connection.root()["x"] = 1
    current.join(RefusesToVote())
    with pytest.raises(Refused):
        transaction.commit()
    transaction.abort()
    connection.close()
    assert site.last("main")[1].participants == {"root", "catalog"}
    assert tidstorage.statistics()["errors"] > 0
    site.close()


def test_faults_in_containing_a_failure_let_the_failure_out(site, monkeypatch):
    monkeypatch.setattr(hook.failed_commits, "may_spoil_caches", throw)
    connection = site.connection()
    connection.root()["x"] = 1
    transaction.get().join(RefusesToVote())
    with pytest.raises(Refused):
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

    class Nested(RefusesToVote):
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
    transaction.get().join(RefusesToVote())
    with pytest.raises(Refused):
        transaction.commit()
    transaction.abort()
    connection.close()
    assert [message[0] for message in told.messages] == ["BEGIN", "ABORT"]
    assert told.messages[0][1] == told.messages[1][1]


def test_what_is_left_out_at_its_beginning_has_no_end(site):
    hook._active.sender = told = _Told(takes=False)
    site.write("main")
    assert [message[0] for message in told.messages] == ["BEGIN"]
