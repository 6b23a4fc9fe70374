"""What the hook adds to a commit: ``python benchmarks/hook_cost.py``.

First the hook's own work, with nothing committed, for 2, 4 and 60 storages whose
last TID is kept as a ZEO client keeps it, all with an open connection.  Then real
commits over two real ZEO servers, in pairs with and without the hook, so that
the machine's mood cancels out; half of the pairs start with, half without.  Last,
conflicts on the second of the two storages, with 10,000 objects of it cached, and the
next request, which reads all of them: with and without ``clear_caches``.
"""

import contextlib
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path

import transaction
import ZEO
import ZODB
from persistent.mapping import PersistentMapping
from ZEO.cache import ClientCache
from ZODB.FileStorage import FileStorage

import tidstorage
from tidstorage.coherence import stamp
from tidstorage.hook import hook

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from real_processes import zeo_server

#: Many short rounds, of which the least counts: others use the machine too.
ROUNDS = 300
PAIRS = 500
CONFLICTS = 200
CACHED = 10_000


def of_the_hook_alone(folder: Path, count: int) -> tuple[float, int]:
    """Microseconds of a commit that writes two storages, and its stamp's bytes."""
    names = [f"storage-{number:02}" for number in range(count)]
    tidstorage.install(ids={name: name for name in names})
    databases: dict[str, ZODB.DB] = {}
    for name in names:
        storage = FileStorage(str(folder / f"{count}-{name}.fs"))
        ZODB.DB(storage, database_name=name, databases=databases)
    active = hook._active
    assert active is not None
    for storage in active.databases.list_open().storages:
        cache = ClientCache(size=1 << 20)
        cache.setLastTid(storage.last_transaction())
        storage.last_transaction = _as_client_storage(cache)
    first = databases[names[0]].open()
    connections = [first.get_connection(name) for name in names]
    for connection in connections[:2]:
        connection.root()["x"] = 1
    current = transaction.get()
    rounds = []
    for _ in range(ROUNDS):
        repeats = 1 + 200 // count
        start = time.perf_counter()
        for _ in range(repeats):
            active.commit_resources(current, _commit_nothing)
        rounds.append((time.perf_counter() - start) / repeats * 1e6)
    length = len(current.extension[stamp.KEY])
    transaction.abort()
    for database in list(databases.values()):
        database.close()
    tidstorage.uninstall()
    return min(rounds), length


def _as_client_storage(cache):
    def lastTransaction():
        return cache.getLastTid()

    return lastTransaction


def _commit_nothing(transaction):
    pass


@contextlib.contextmanager
def two_connections(folder: Path):
    """Connections to two real servers, under one transaction manager."""
    with zeo_server(folder / "a", ["a"]) as a, zeo_server(folder / "c", ["c"]) as c:
        databases: dict[str, ZODB.DB] = {}
        for storage, server in (("a", a), ("c", c)):
            client = ZEO.client(server.address, storage=storage)
            ZODB.DB(
                client,
                database_name=storage,
                databases=databases,
                cache_size=2 * CACHED,
            )
        first = databases["a"].open()
        tidstorage.install()
        yield first, first.get_connection("c")
        tidstorage.uninstall()
        first.close()
        for database in list(databases.values()):
            database.close()


def over_two_servers(folder: Path) -> tuple[float, float, float]:
    """Microseconds, medians: a commit, and what the hook adds, in time and CPU."""
    with two_connections(folder / "commits") as pair:
        active = hook._active
        without, added, added_cpu = [], [], []
        for number in range(PAIRS):
            times = {}
            for hooked in (number % 2 == 0, number % 2 == 1):
                hook._active = active if hooked else None
                times[hooked] = _timed_commit(pair)
            without.append(times[False][0])
            added.append(times[True][0] - times[False][0])
            added_cpu.append(times[True][1] - times[False][1])
        hook._active = active
    return tuple(map(statistics.median, (without, added, added_cpu)))


def _timed_commit(connections) -> tuple[float, float]:
    """Microseconds by the clock, and of this thread's CPU."""
    for connection in connections:
        root = connection.root()
        root["x"] = root.get("x", 0) + 1
    start, start_cpu = time.perf_counter(), time.thread_time()
    transaction.commit()
    cpu = time.thread_time() - start_cpu
    return (time.perf_counter() - start) * 1e6, cpu * 1e6


def of_a_conflict(folder: Path) -> tuple[float, float]:
    """Milliseconds, medians: a conflict and the next request, and what is added."""
    with two_connections(folder / "conflicts") as pair:
        active = hook._active
        pair[1].root()["objects"] = objects = PersistentMapping()
        for number in range(CACHED):
            objects[number] = PersistentMapping(number=number)
        transaction.commit()
        protected = active.options
        unprotected = dataclasses.replace(protected, clear_caches=False)
        without: list[float] = []
        added: dict[bool, list[float]] = {True: [], False: []}
        for number in range(CONFLICTS):
            times = {}
            for cleared in (number % 2 == 0, number % 2 == 1):
                active.options = protected if cleared else unprotected
                read_all(pair[1])
                times[cleared] = _timed_conflict(pair)
            without.append(times[False])
            added[number % 2 == 0].append(times[True] - times[False])
        active.options = protected
    # Whatever comes second in a pair is faster: a median over both orders would
    # lie anywhere between the two.
    medians = map(statistics.median, added.values())
    return statistics.median(without), statistics.mean(medians)


def _timed_conflict(connections) -> float:
    manager = transaction.TransactionManager()
    other = connections[1].db().open(manager)
    other.root()["y"] = other.root().get("y", 0) + 1
    for connection in connections:
        connection.root()["y"] = -1
        connection.root()["new"] = PersistentMapping()
    manager.commit()
    other.close()
    start = time.perf_counter()
    try:
        transaction.commit()
    except ZODB.POSException.ConflictError:
        transaction.abort()
    else:
        raise RuntimeError("there is no conflict")
    read_all(connections[1])
    return (time.perf_counter() - start) * 1e3


def read_all(connection) -> None:
    """Read all that is to be cached, as a request does."""
    for value in connection.root()["objects"].values():
        value["number"]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (2, 4, 60):
            cost, length = of_the_hook_alone(folder, count)
            print(f"{count:3} storages: {cost:6.1f} µs, stamp of {length} bytes")
        whole, added, cpu = over_two_servers(folder)
        print(
            f"commit over two ZEO servers: {whole:.0f} µs;"
            f" the hook adds {added:+.0f} µs, {cpu:+.1f} µs of CPU"
        )
        whole, added = of_a_conflict(folder)
        print(
            f"conflict on the second, {CACHED} objects cached, and the next request:"
            f" {whole:.1f} ms; clear_caches adds {added:+.2f} ms"
        )


if __name__ == "__main__":
    main()
