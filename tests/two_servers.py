"""Two real ZEO servers, a connection to each, and what makes their commits fail."""

import contextlib
import json
import subprocess
import sys

import transaction
import ZEO
import ZODB
from persistent.mapping import PersistentMapping
from real_processes import PATIENCE, zeo_server


@contextlib.contextmanager
def two_servers(folder):
    """Storages ``a`` and ``c``, so that a resource ``b`` comes between them."""
    with (
        zeo_server(folder / "one", ["a"]) as one,
        zeo_server(folder / "two", ["c"]) as two,
    ):
        yield {"a": one, "c": two}


class Step:
    """A resource that does something at one step, between ``a`` and ``c``."""

    transaction_manager = transaction.manager

    def __init__(self, step, action, key="b"):
        self.key = key
        setattr(self, step, lambda transaction: action())

    def sortKey(self):
        return self.key

    def nothing(self, transaction):
        pass

    abort = tpc_begin = commit = tpc_vote = tpc_finish = tpc_abort = nothing


@contextlib.contextmanager
def two_connections(servers):
    """Connections to both, under one manager, with a counter in each."""
    databases = {}
    for storage, server in servers.items():
        client = ZEO.client(server.address, storage=storage, wait_timeout=PATIENCE)
        ZODB.DB(client, database_name=storage, databases=databases)
    connection = databases["a"].open()
    pair = connection, connection.get_connection("c")
    for each in pair:
        each.root()["count"] = 0
        each.root()["mapping"] = PersistentMapping()
    transaction.commit()
    wait_for_servers(pair, 1)
    yield pair
    transaction.abort()
    for database in list(databases.values()):
        database.close()


def wait_for_servers(pair, seconds):
    """How long calls wait for a server that is away."""
    for each in pair:
        each.db().storage._server.timeout = seconds


def count_up(pair):
    for connection in pair:
        connection.root()["count"] += 1


def loaded(connection):
    """How many objects the connection's cache holds with their state."""
    return connection._cache.cache_non_ghost_count


def touch(pair):
    for connection in pair:
        assert connection.root()["mapping"].get("x") is None


OTHER_CLIENT = """
import json, sys, transaction, ZEO, ZODB
from persistent.mapping import PersistentMapping
from ZODB.utils import u64
host, port = sys.argv[1], int(sys.argv[2])
database = ZODB.DB(ZEO.client((host, port), storage="a"), database_name="a")
connection = database.open()
child, parent = PersistentMapping(), PersistentMapping()
connection.add(child)
connection.add(parent)
child["name"] = "theirs"
parent["child"] = child
connection.root()["parent"] = parent
transaction.commit()
print(json.dumps([u64(child._p_oid), u64(parent._p_oid)]))
database.close()
"""


def let_another_client_write(server):
    """Oids, as ints, of a child and its parent that another process commits."""
    host, port = server.address
    answer = subprocess.run(
        [sys.executable, "-c", OTHER_CLIENT, host, str(port)],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    child, parent = json.loads(answer.stdout)
    return child, parent
