"""A process that commits transactions over several storages, stamped by hand.

``python stamping_writer.py '{"seed": 1, "storages": {ID: [HOST, PORT]}, ...}'``

Each transaction takes a few storages and adds 1 to a counter in each of them
under the name of the whole group, so that the counters of one group are equal
wherever no transaction is torn; it also notes, in each storage it writes, the
counters it read in the others.  Prints ``ready`` after its first commit.
"""

import json
import os
import random
import sys
import time

import transaction
import ZEO
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.POSException import ConflictError

from tidstorage.coherence import stamp, tid


def open_connections(storages, blob_folder=None):
    """{storage id: open connection} of one multi-database."""
    databases = {}
    for storage, address in storages.items():
        options = {}
        if blob_folder is not None:
            options["blob_dir"] = f"{blob_folder}/{os.getpid()}-{storage}"
        client = ZEO.client(tuple(address), storage=storage, **options)
        ZODB.DB(client, database_name=storage, databases=databases)
    first = databases[next(iter(storages))].open()
    return {storage: first.get_connection(storage) for storage in storages}


def vector(connections):
    """{storage id: exclusive bound of what this process could have seen}."""
    return {
        storage: max(
            tid.from_bytes(connection.db().storage.lastTransaction()) + 1,
            tid.from_bytes(connection._normal_storage._start),
        )
        for storage, connection in connections.items()
    }


def add_stamp(connections, participants, commit_id=None):
    """Stamp the current transaction."""
    data = stamp.encode(
        commit_id or os.urandom(16), sorted(participants), vector(connections)
    )
    transaction.get().setExtendedInfo(stamp.KEY, data)


def commit_group(connections, group, with_blob=False):
    """One transaction over the storages of ``group``, with its stamp."""
    transaction.begin()
    name = "+".join(sorted(group))
    seen = {
        storage: sum(
            v
            for k, v in connection.root().items()
            if "seen" not in k and isinstance(v, int)
        )
        for storage, connection in connections.items()
    }
    for storage in group:
        root = connections[storage].root()
        root[name] = root.get(name, 0) + 1
        for other, total in seen.items():
            if other not in group:
                root[f"seen {other}"] = max(total, root.get(f"seen {other}", 0))
        root.setdefault("mapping", PersistentMapping())[name] = "x" * 50
        if with_blob:
            root["blob"] = Blob(os.urandom(2000))
    add_stamp(connections, group)
    transaction.commit()


def commit_half(connections, present, missing):
    """What is left where a client dies between two finishes: ``present`` alone."""
    transaction.begin()
    root = connections[present].root()
    root["half"] = root.get("half", 0) + 1
    transaction.get().setUser("editor")
    transaction.get().note("/site/front: change the title")
    add_stamp(connections, [present, missing])
    transaction.commit()


def commit_bare(connections, storage):
    """A transaction of a process without our hook."""
    transaction.begin()
    root = connections[storage].root()
    root["bare"] = root.get("bare", 0) + 1
    transaction.commit()


def commit_with(connections, storage, participants, known, commit_id=None):
    """A transaction on one storage, stamped with what it should not know."""
    transaction.begin()
    connections[storage].root()["odd"] = time.time()
    commit_id = bytes.fromhex(commit_id) if commit_id else os.urandom(16)
    data = stamp.encode(commit_id, participants, {**vector(connections), **known})
    transaction.get().setExtendedInfo(stamp.KEY, data)
    transaction.commit()


def main():
    options = json.loads(sys.argv[1])
    chance = random.Random(options["seed"])
    storages = options["storages"]
    blobs_of = set(options.get("blobs_of", ()))
    connections = open_connections(storages, options.get("blob_folder"))
    ready = False
    if "half" in options:
        commit_half(connections, *options["half"])
    if "bare" in options:
        commit_bare(connections, options["bare"])
        print("ready", flush=True)
    if "odd" in options:
        commit_with(connections, **options["odd"])
    while options.get("count", 1):
        size = chance.choice([1, 2, 2, len(storages)])
        group = options.get("group") or chance.sample(
            sorted(storages), min(size, len(storages))
        )
        try:
            commit_group(
                connections, group, set(group) <= blobs_of and chance.random() < 0.5
            )
        except ConflictError:
            transaction.abort()
            continue
        if not ready:
            print("ready", flush=True)
            ready = True
        if "count" in options:
            options["count"] -= 1
        time.sleep(options.get("pause", 0.0))


if __name__ == "__main__":
    main()
