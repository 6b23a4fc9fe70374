"""Failed commits, with real ZEO servers killed at the exact step.

Each protection is tried switched on and switched off: off, the harm is seen.
"""

import pickle

import pytest
import transaction
from persistent.mapping import PersistentMapping
from real_processes import PATIENCE, wait_until
from records import read
from transaction.interfaces import TransientError
from two_servers import (
    Step,
    count_up,
    let_another_client_write,
    loaded,
    touch,
    two_connections,
    two_servers,
    wait_for_servers,
)
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError, POSKeyError
from ZODB.utils import p64, u64

import tidstorage
from tidstorage.hook import commit as stamping
from tidstorage.hook import hook
from tidstorage.hook.failed_commits import CommitOutcomeUnknown

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def clean():
    yield
    transaction.abort()
    tidstorage.uninstall()


@pytest.fixture
def servers(tmp_path):
    with two_servers(tmp_path) as servers:
        yield servers


@pytest.fixture
def site(servers):
    with two_connections(servers) as pair:
        yield pair


class Told:
    """A sender that remembers what it is to say."""

    def __init__(self):
        self.words = []

    def begin(self, transaction_id, storages):
        self.words.append("BEGIN")
        return True

    def commit(self, transaction_id, tids):
        self.words.append("COMMIT")

    def abort(self, transaction_id):
        self.words.append("ABORT")

    def close(self, deadline):
        pass

    def statistics(self):
        return {}


def commit_ids(server):
    """The ids in a server's file; stops it."""
    server.stop()
    (storage,) = server.storages
    return [
        mark and mark.commit_id.hex() for _, mark in read(server.data_file(storage))
    ]


def kill_between_the_finishes(servers, pair):
    """The exception of a commit during whose finish the second server dies."""
    count_up(pair)
    transaction.get().join(Step("tpc_finish", servers["c"].kill))
    with pytest.raises(Exception) as caught:
        transaction.commit()
    transaction.abort()
    return caught.value


def test_a_server_killed_between_the_finishes_is_no_transient_error(servers, site):
    tidstorage.install()
    hook._active.sender = told = Told()
    error = kill_between_the_finishes(servers, site)
    assert type(error) is CommitOutcomeUnknown
    assert not isinstance(error, TransientError)
    assert isinstance(error.__cause__, ClientDisconnected)
    assert error.participants == ("a", "c")
    assert error.commit_id in str(error)
    assert "a, c" in str(error)
    assert told.words == ["BEGIN"]
    assert tidstorage.statistics()["outcome_unknown"] == 1
    # It says the truth: one holds it, the other does not.
    servers["c"].start()
    assert commit_ids(servers["a"])[-1] == error.commit_id
    assert error.commit_id not in commit_ids(servers["c"])


def test_switched_off_the_transient_error_comes_out(servers, site):
    tidstorage.install(outcome_unknown=False)
    hook._active.sender = told = Told()
    error = kill_between_the_finishes(servers, site)
    assert isinstance(error, TransientError)
    assert told.words == ["BEGIN"]


@pytest.mark.parametrize("protected", [True, False])
def test_a_reply_lost_at_the_end_is_not_repeated(servers, site, protected, monkeypatch):
    """Both servers hold it, and only the client does not know."""
    tidstorage.install(outcome_unknown=protected)
    client = site[1].db().storage
    finish = client._server.tpc_finish
    lost = []

    def lose_the_first_reply(*arguments, **options):
        result = finish(*arguments, **options)
        if not lost:
            lost.append(result)
            raise ClientDisconnected("reply lost")
        return result

    monkeypatch.setattr(client._server, "tpc_finish", lose_the_first_reply)
    if protected:
        with pytest.raises(CommitOutcomeUnknown):
            _run_twice_at_most(site)
    else:
        _run_twice_at_most(site)
    monkeypatch.undo()
    transaction.begin()
    counts = [connection.root()["count"] for connection in site]
    assert counts == ([1, 1] if protected else [2, 2])


def _run_twice_at_most(pair):
    for attempt in transaction.manager.attempts(2):
        with attempt:
            count_up(pair)


@pytest.mark.parametrize("step", ["tpc_begin", "commit", "tpc_vote"])
def test_before_the_finish_everything_stays_retryable(servers, site, step):
    tidstorage.install()
    hook._active.sender = told = Told()
    count_up(site)
    transaction.get().join(Step(step, servers["c"].kill))
    with pytest.raises(ClientDisconnected) as caught:
        transaction.commit()
    transaction.abort()
    assert isinstance(caught.value, TransientError)
    assert told.words == ["BEGIN", "ABORT"]
    assert tidstorage.statistics()["outcome_unknown"] == 0
    before = len(commit_ids(servers["a"]))
    servers["c"].start()
    assert before == len(commit_ids(servers["c"])) == 2


def test_another_resource_that_fails_to_finish_counts_too(servers, site):
    tidstorage.install()

    def fail():
        raise ConflictError("from a resource that is no database")

    count_up(site)
    transaction.get().join(Step("tpc_finish", fail, key="z"))
    with pytest.raises(CommitOutcomeUnknown) as caught:
        transaction.commit()
    transaction.abort()
    assert commit_ids(servers["a"])[-1] == caught.value.commit_id
    assert commit_ids(servers["c"])[-1] == caught.value.commit_id


def test_an_interruption_in_the_finish_stays_one(servers, site):
    tidstorage.install()
    hook._active.sender = told = Told()

    def interrupt():
        raise KeyboardInterrupt

    count_up(site)
    transaction.get().join(Step("tpc_finish", interrupt))
    with pytest.raises(KeyboardInterrupt):
        transaction.commit()
    transaction.abort()
    assert told.words == ["BEGIN"]


def test_transactions_without_databases_are_left_alone(servers, site):
    tidstorage.install()

    def fail():
        raise ConflictError

    transaction.get().join(Step("tpc_finish", fail))
    with pytest.raises(ConflictError):
        transaction.commit()


def test_unstamped_commits_are_protected_too(servers, site, monkeypatch):
    tidstorage.install()
    monkeypatch.setattr(stamping, "_parts", lambda *arguments: 1 / 0)
    error = kill_between_the_finishes(servers, site)
    assert type(error) is CommitOutcomeUnknown
    assert error.commit_id is None
    assert error.participants == ("a", "c")


def test_the_error_can_be_sent_to_another_process():
    error = CommitOutcomeUnknown("ab" * 16, {"c", "a"})
    again = pickle.loads(pickle.dumps(error))
    assert (again.commit_id, again.participants) == ("ab" * 16, ("a", "c"))
    assert str(again) == str(error)


@pytest.mark.parametrize("cleared", [True, False])
def test_caches_are_cleared_after_a_failed_first_phase(servers, site, cleared):
    tidstorage.install(clear_caches=cleared)

    def refuse():
        raise ValueError("refused")

    touch(site)
    site[0].root()["count"] += 1
    transaction.get().join(Step("tpc_vote", refuse, key="z"))
    with pytest.raises(ValueError, match="refused"):
        transaction.commit()
    # The sibling that wrote nothing is cleared with the other.
    assert (loaded(site[0]) + loaded(site[1]) == 0) == cleared
    transaction.abort()
    assert tidstorage.statistics()["caches_cleared"] == int(cleared)
    count_up(site)
    transaction.commit()


def test_caches_are_cleared_after_an_unknown_outcome(servers, site):
    tidstorage.install()
    touch(site)
    kill_between_the_finishes(servers, site)
    assert loaded(site[0]) + loaded(site[1]) == 0


def test_an_ordinary_conflict_clears_nothing(servers, site):
    tidstorage.install()
    other = transaction.TransactionManager()
    connection = site[0].db().open(other)
    connection.root()["count"] += 1
    touch(site)
    count_up(site)
    other.commit()
    with pytest.raises(ConflictError):
        transaction.commit()
    transaction.abort()
    connection.close()
    assert loaded(site[1])
    assert tidstorage.statistics()["caches_cleared"] == 0


@pytest.fixture
def reserved_twice(servers, site):
    """An oid that this client holds in reserve and another client has used.

    The server was killed and restarted, so it gave out the same ones again.
    """

    def make():
        wait_for_servers(site, PATIENCE)
        connection = site[0]
        reserve = connection.db().storage._oids
        mine = connection.new_oid()  # fills the reserve
        reserve.append(mine)
        servers["a"].kill()
        servers["a"].start()
        wait_until(connection.db().storage.is_connected, "the client is back")
        child, parent = let_another_client_write(servers["a"])
        wait_until(
            lambda: transaction.begin() and "parent" in connection.root(),
            "their objects are seen",
        )
        return child, parent

    return make


def take_reserved(site, child):
    """Make the next new object of this client collide, where it still can."""
    reserve = site[0].db().storage._oids
    assert p64(child) in reserve
    reserve.remove(p64(child))
    reserve.append(p64(child))


def test_reserved_oids_are_dropped_when_the_connection_was_lost(site, reserved_twice):
    tidstorage.install()
    child, _ = reserved_twice()
    reserve = site[0].db().storage._oids
    assert reserve == []
    site[0].root()["parent"]["child"]["name"]
    site[0].root()["mine"] = PersistentMapping()
    transaction.commit()
    assert u64(site[0].root()["mine"]._p_oid) > child


@pytest.mark.parametrize("cleared", [True, False])
@pytest.mark.parametrize("by", ["commit", "savepoint"])
def test_a_collision_of_oids_does_not_disown_the_object_of_others(
    site, reserved_twice, cleared, by
):
    """Without any protection a later, ordinary commit cuts their object off."""
    tidstorage.install(drop_oids=False, clear_caches=cleared)
    child, _ = reserved_twice()
    take_reserved(site, child)
    connection = site[0]
    parent = connection.root()["parent"]
    assert parent["child"]["name"] == "theirs"
    connection.root()["mapping"]["mine"] = PersistentMapping(name="mine")
    with pytest.raises(ValueError, match="already has the same oid"):
        transaction.commit() if by == "commit" else transaction.savepoint()
    transaction.abort()
    # Its next attempts would only use up the rest of the reserve.
    connection.db().storage._oids.clear()
    parent = connection.root()["parent"]
    parent["color"] = "blue"
    try:
        transaction.commit()
    except POSKeyError:
        # The disowned object is taken for a new one, and has lost its state.
        harmed = True
    else:
        written = connection.db().storage.load(parent._p_oid)[0]
        harmed = p64(child) not in written
    assert harmed != cleared


def test_uninstalled_nothing_is_dropped(site, reserved_twice):
    tidstorage.install()
    tidstorage.uninstall()
    child, _ = reserved_twice()
    assert p64(child) in site[0].db().storage._oids
