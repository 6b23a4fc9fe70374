"""One commit's stamp: who takes part, and what this process could have seen.

Called on the path of every commit; see benchmarks/hook_cost.py.
"""

import os
from collections.abc import Mapping
from typing import Any

from ZODB.Connection import Connection, TransactionMetaData
from ZODB.DB import TransactionalUndo

from tidstorage.coherence import stamp, tid
from tidstorage.hook.databases import ClusterDatabases
from tidstorage.hook.open_storages import (
    OpenStorage,
    OpenStorages,
    bound_after,
)

#: What FileStorage keeps of ``transaction.extension``, pickled.
LONGEST_EXTENSION = 65_535
#: Most that pickle adds to our key and value in an otherwise empty dict.
_PICKLE_OVERHEAD = 64
#: The kinds of resources that leave a record in a database.
DATABASE_RESOURCES = (Connection, TransactionalUndo)


class DoesNotFit(Exception):
    """With a stamp the extension would be longer than a record can hold."""


class Commit:
    """One commit under way.

    resources: those of ZODB that have joined.  participants: {id(database): its
    storage}, of the cluster's storages that it writes.  commit_id: hex; None where it
    is not stamped.  told: the daemon was told of its beginning, and is owed its end.
    finished: (MVCC adapter, TID as 8 bytes) of each storage as it finishes.
    """

    __slots__ = ("commit_id", "finished", "participants", "resources", "told")

    def __init__(self, resources: list[Connection | TransactionalUndo]) -> None:
        self.resources = resources
        self.participants: dict[int, OpenStorage] = {}
        self.commit_id: str | None = None
        self.told = False
        self.finished: list[tuple[Any, bytes]] = []

    def participant_ids(self) -> tuple[str, ...]:
        """The storage ids of the participants."""
        return tuple(storage.storage_id for storage in self.participants.values())

    def tids(self) -> dict[str, int]:
        """{storage id: TID} of what has finished.

        A storage with an MVCC of its own does not tell its TID here.
        """
        finished = {id(adapter): number for adapter, number in self.finished}
        tids = {}
        for resource in self.resources:
            storage = self.participants.get(id(resource._db))
            number = finished.get(id(resource._db._mvcc_storage))
            if storage is not None and number is not None:
                tids[storage.storage_id] = tid.from_bytes(number)
        return tids


def put_stamp(transaction: Any, commit: Commit, databases: ClusterDatabases) -> bool:
    """Stamp the transaction, if it writes storages of the cluster.

    To be called when joining is over, and before any storage knows of the
    transaction.  False where it is not stamped: it writes no storage of the cluster,
    or ids are unclear.

    Raises: DoesNotFit: where the extension has no room for the stamp.
    """
    extension = transaction.extension
    # Without a stamp of its own it must not carry that of another transaction,
    # which code that copies transactions may have put there.
    extension.pop(stamp.KEY, None)
    opened = databases.list_open()
    for resource in commit.resources:
        database = resource._db
        if id(database) not in opened.by_database:
            databases.add(database)
            opened = databases.list_open()
        storage = opened.by_database.get(id(database))
        if storage is not None:
            commit.participants[id(database)] = storage
            if storage.inherited is not None:
                storage.take_over()
    if not commit.participants or not opened.stampable:
        return False
    commit_id = os.urandom(stamp.COMMIT_ID_LENGTH)
    data = stamp.assemble(commit_id, _parts(transaction, opened, commit))
    if not _fits(extension, data):
        raise DoesNotFit(
            f"with a stamp of {len(opened.storages)} storages the extension would have"
            f" more than {LONGEST_EXTENSION} bytes"
        )
    extension[stamp.KEY] = data
    commit.commit_id = commit_id.hex()
    return True


def _parts(transaction: Any, opened: OpenStorages, commit: Commit) -> list[bytes]:
    """The stamp's parts: what this process could have seen of each storage."""
    bounds = _bounds_of_connections(transaction, opened)
    participants = commit.participants.values()
    parts: list[bytes] = []
    for storage in opened.storages:
        # Other threads may write storage.bound meanwhile: it is read once.
        bound = storage.bound
        last = storage.last_transaction()
        if last is not None and last >= bound:
            bound = storage.bound = bound_after(last)
        # ZEO announces a transaction to connections before its last TID moves.
        of_connections = bounds.get(storage)
        if of_connections is not None and of_connections > bound:
            bound = storage.bound = of_connections
        head = storage.as_participant if storage in participants else storage.as_reader
        parts += (head, bound)
    return parts


def _bounds_of_connections(
    transaction: Any, opened: OpenStorages
) -> dict[OpenStorage, bytes]:
    """What the manager's open connections may see.

    {storage: exclusive bound, 8 bytes}.
    """
    synchronizers: list[Any] = []
    transaction._synchronizers.map(synchronizers.append)
    bounds: dict[OpenStorage, bytes] = {}
    for connection in synchronizers:
        if not isinstance(connection, Connection):
            continue
        storage = opened.by_database.get(id(connection._db))
        if storage is None:
            continue
        # Nearly all have it; a call for each of 60 storages would be felt.
        bound = getattr(connection._normal_storage, "_start", None)
        if bound is None:
            bound = storage.find_bound(connection)
            if bound is None:
                continue
        known = bounds.get(storage)
        if known is None or bound > known:
            bounds[storage] = bound
    return bounds


def _fits(extension: Mapping[str, Any], data: bytes) -> bool:
    """Whether a record can hold the extension with our stamp in it."""
    if not extension:
        return len(data) + _PICKLE_OVERHEAD <= LONGEST_EXTENSION
    whole = TransactionMetaData(extension={**extension, stamp.KEY: data})
    return len(whole.extension_bytes) <= LONGEST_EXTENSION
