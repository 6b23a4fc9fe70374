"""Caches are emptied where they may hold wrong objects, and nowhere else.

An object of another client is disowned where a new one of ours is given its oid.  Each
way to that is tried with the protection and without: without it the harm is seen.
"""

import pytest
import transaction
from persistent.mapping import PersistentMapping
from real_processes import PATIENCE, wait_until
from transaction.interfaces import TransientError
from two_servers import (
    Step,
    count_up,
    let_another_client_write,
    loaded,
    two_connections,
    two_servers,
    wait_for_servers,
)
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError, POSKeyError, ReadConflictError
from ZODB.utils import p64

import tidstorage

pytestmark = pytest.mark.integration
CACHED = 10_000


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


@pytest.fixture
def full(site):
    """Both connections, with thousands of objects in the cache of the second one."""
    for connection in site:
        connection.db().setCacheSize(2 * CACHED)
        connection._cache.cache_size = 2 * CACHED
    objects = PersistentMapping()
    site[1].root()["objects"] = objects
    for number in range(CACHED):
        objects[number] = PersistentMapping()
    transaction.commit()
    return site


class Refusal(TransientError):
    """What a resource that is no database raises to be tried again."""


def conflict_on_the_second(pair):
    """Let another connection write the counter that this transaction writes too."""
    manager = transaction.TransactionManager()
    connection = pair[1].db().open(manager)
    connection.root()["count"] += 1
    count_up(pair)
    manager.commit()
    connection.close()


def with_new_objects(pair):
    for connection in pair:
        connection.root()["new"] = new = PersistentMapping()
        connection.root()["new, too"] = PersistentMapping()
        connection.add(new)
    conflict_on_the_second(pair)


def with_savepoints(pair):
    for connection in pair:
        connection.root()["new"] = PersistentMapping(child=PersistentMapping())
    transaction.savepoint()
    pair[0].root()["mapping"]["x"] = PersistentMapping()
    transaction.savepoint(optimistic=True)
    for connection in pair:
        connection.cacheMinimize()
        connection.root()["new"]["child"]["y"] = 1
    for value in list(pair[1].root()["objects"].values()):
        value.get("x")
    conflict_on_the_second(pair)


def with_something_read(pair):
    for connection in pair:
        connection.root()["new"] = PersistentMapping()
    read = pair[1].root()["mapping"]
    manager = transaction.TransactionManager()
    connection = pair[1].db().open(manager)
    connection.root()["mapping"]["x"] = 1
    read.get("x")
    pair[1].readCurrent(read)
    manager.commit()
    connection.close()


def refused(error):
    def refuse():
        raise error

    def prepare(pair):
        for connection in pair:
            connection.root()["new"] = PersistentMapping()
        transaction.get().join(Step("tpc_vote", refuse, key="z"))

    return prepare


@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        (conflict_on_the_second, ConflictError),
        (with_new_objects, ConflictError),
        (with_savepoints, ConflictError),
        (with_something_read, ReadConflictError),
        (refused(ReadConflictError()), ReadConflictError),
        (refused(ClientDisconnected()), ClientDisconnected),
        (refused(Refusal()), Refusal),
    ],
)
def test_what_is_only_to_be_tried_again_empties_nothing(full, prepare, error):
    tidstorage.install()
    for value in full[1].root()["objects"].values():
        value.get("x")
    assert loaded(full[1]) > CACHED
    prepare(full)
    with pytest.raises(error):
        transaction.commit()
    transaction.abort()
    assert loaded(full[1]) > CACHED
    assert tidstorage.statistics()["caches_cleared"] == 0
    count_up(full)
    transaction.commit()


@pytest.fixture
def child(servers, site):
    """The oid of another client's object, seen here, which the next new one gets too.

    This client may not have lost its server for that: a storage of another kind may
    give an oid out twice.
    """
    wait_for_servers(site, PATIENCE)
    connection = site[0]
    connection.new_oid()
    child, _ = let_another_client_write(servers["a"])
    wait_until(
        lambda: transaction.begin() and "parent" in connection.root(),
        "their objects are seen",
    )
    connection.db().storage._oids.append(p64(child))
    return p64(child)


def is_harmed(pair, child):
    """Whether a later, ordinary commit cuts the other client's object off."""
    connection = pair[0]
    # Its next attempts would only use up the rest of the reserve.
    connection.db().storage._oids.clear()
    parent = connection.root()["parent"]
    parent["color"] = "blue"
    try:
        transaction.commit()
    except POSKeyError:
        # The disowned object is taken for a new one, and has lost its state.
        return True
    return child not in connection.db().storage.load(parent._p_oid)[0]


cleared_or_not = pytest.mark.parametrize("cleared", [True, False])


@cleared_or_not
def test_a_connection_lost_at_the_very_object(site, child, cleared, monkeypatch):
    """What was cached under its oid is another's, though it is no collision yet."""
    tidstorage.install(clear_caches=cleared)
    connection = site[0]
    assert connection.root()["parent"]["child"]["name"] == "theirs"
    connection.root()["mapping"]["mine"] = PersistentMapping(name="mine")
    storage = connection._normal_storage
    store = storage.store

    def lose(oid, *arguments):
        if oid == child:
            raise ClientDisconnected("lost amid the stores")
        store(oid, *arguments)

    monkeypatch.setattr(storage, "store", lose)
    with pytest.raises(ClientDisconnected):
        transaction.commit()
    transaction.abort()
    monkeypatch.undo()
    assert tidstorage.statistics()["caches_cleared"] == int(cleared)
    assert is_harmed(site, child) != cleared


@cleared_or_not
def test_a_conflict_of_an_object_that_is_new_here(site, child, cleared):
    """Their parent, loaded meanwhile, refers to ours, which has the same oid."""
    tidstorage.install(clear_caches=cleared)
    connection = site[0]
    connection.cacheMinimize()
    connection.root()["mapping"]["mine"] = PersistentMapping(name="mine")
    transaction.savepoint()
    assert connection.root()["parent"]["child"]["name"] == "mine"
    with pytest.raises(ConflictError) as caught:
        transaction.commit()
    transaction.abort()
    assert caught.value.oid == child
    assert is_harmed(site, child) != cleared


def conflict_elsewhere(pair):
    def refuse():
        raise ConflictError

    # Before the first storage votes.
    transaction.get().join(Step("tpc_vote", refuse, key="0"))
    with pytest.raises(ConflictError):
        transaction.commit()
    transaction.abort()


@cleared_or_not
@pytest.mark.parametrize("end", [conflict_elsewhere, lambda pair: transaction.abort()])
def test_oids_that_were_reserved_at_a_server_that_was_lost(
    servers, site, cleared, end, monkeypatch
):
    """Another failure, or none, comes before the collision is noticed."""
    tidstorage.install(drop_oids=False, clear_caches=cleared)
    wait_for_servers(site, PATIENCE)
    connection = site[0]
    reserve = connection.db().storage._oids
    reserve.append(connection.new_oid())
    servers["a"].kill()
    servers["a"].start()
    wait_until(connection.db().storage.is_connected, "the client is back")
    child, _ = let_another_client_write(servers["a"])
    child = p64(child)
    wait_until(
        lambda: transaction.begin() and "parent" in connection.root(),
        "their objects are seen",
    )
    reserve.remove(child)
    reserve.append(child)
    connection.cacheMinimize()
    connection.root()["mapping"]["mine"] = PersistentMapping(name="mine")
    transaction.savepoint()
    assert connection.root()["parent"]["child"]["name"] == "mine"
    end(site)
    assert is_harmed(site, child) != cleared
