"""One commit's stamp: who takes part, and what this process could have seen.

Called on the path of every commit; see benchmarks/hook_cost.py.
"""

import os
from collections.abc import Mapping
from typing import Any

from ZODB.Connection import Connection, TransactionMetaData
from ZODB.DB import TransactionalUndo

from tidstorage.coherence import stamp, tid
from tidstorage.hook.databases import Member, Membership, Table, bound_after

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

    participants: {id(database): member}.  commit_id: hex; None where it is not
    stamped.  told: the daemon was told of its beginning, and is owed its end.
    finished: (MVCC adapter, TID) of each storage as it finishes.
    """

    __slots__ = ("commit_id", "finished", "participants", "resources", "told")

    def __init__(self, resources: list[Connection | TransactionalUndo]) -> None:
        self.resources = resources
        self.participants: dict[int, Member] = {}
        self.commit_id: str | None = None
        self.told = False
        self.finished: list[tuple[Any, bytes]] = []

    def participant_ids(self) -> tuple[str, ...]:
        """The storage ids of the participants."""
        return tuple(each.storage_id for each in self.participants.values())

    def tids(self) -> dict[str, int]:
        """{storage id: TID} of what has finished.

        A storage with an MVCC of its own does not tell its TID here.
        """
        finished = {id(adapter): number for adapter, number in self.finished}
        tids = {}
        for resource in self.resources:
            member = self.participants.get(id(resource._db))
            number = finished.get(id(resource._db._mvcc_storage))
            if member is not None and number is not None:
                tids[member.storage_id] = tid.from_bytes(number)
        return tids


def put_stamp(transaction: Any, commit: Commit, membership: Membership) -> bool:
    """Stamp the transaction; False where it writes no member, or ids are unclear.

    Joining is over, and no storage knows of the transaction yet.  DoesNotFit
    where the extension has no room.
    """
    extension = transaction.extension
    # Without a stamp of its own it must not carry that of another transaction,
    # which code that copies transactions may have put there.
    extension.pop(stamp.KEY, None)
    table = membership.table()
    for resource in commit.resources:
        database = resource._db
        if id(database) not in table.by_database:
            membership.add(database)
            table = membership.table()
        member = table.by_database.get(id(database))
        if member is not None:
            commit.participants[id(database)] = member
    if not commit.participants or not table.stampable:
        return False
    commit_id = os.urandom(stamp.COMMIT_ID_LENGTH)
    data = stamp.assemble(commit_id, _parts(transaction, table, commit))
    if not _fits(extension, data):
        raise DoesNotFit(
            f"with a stamp of {len(table.members)} storages the extension would have"
            f" more than {LONGEST_EXTENSION} bytes"
        )
    extension[stamp.KEY] = data
    commit.commit_id = commit_id.hex()
    return True


def _parts(transaction: Any, table: Table, commit: Commit) -> list[bytes]:
    """The stamp's parts: what this process could have seen of each storage."""
    bounds = _bounds_of_connections(transaction, table)
    participants = commit.participants.values()
    parts: list[bytes] = []
    for member in table.members:
        # What other threads write to member.bound meanwhile is not relied upon.
        bound = member.bound
        last = member.last_transaction()
        if last is not None and last >= bound:
            bound = member.bound = bound_after(last)
        # ZEO announces a transaction to connections before its last TID moves.
        of_connections = bounds.get(member)
        if of_connections is not None and of_connections > bound:
            bound = member.bound = of_connections
        head = member.as_participant if member in participants else member.as_reader
        parts += (head, bound)
    return parts


def _bounds_of_connections(transaction: Any, table: Table) -> dict[Member, bytes]:
    """{member: exclusive bound} of what the manager's open connections may see."""
    synchronizers: list[Any] = []
    transaction._synchronizers.map(synchronizers.append)
    bounds: dict[Member, bytes] = {}
    for connection in synchronizers:
        if not isinstance(connection, Connection):
            continue
        member = table.by_database.get(id(connection._db))
        if member is None:
            continue
        # None in explicit mode before begin; absent on historical connections,
        # and on storages with an MVCC of their own, which know their last poll.
        storage = connection._normal_storage
        bound = getattr(storage, "_start", None)
        if bound is None:
            last = None if storage is None else storage.lastTransaction()
            if last is None:
                continue
            bound = bound_after(last)
        other = bounds.get(member)
        if other is None or bound > other:
            bounds[member] = bound
    return bounds


def _fits(extension: Mapping[str, Any], data: bytes) -> bool:
    """Whether a record can hold the extension with our stamp in it."""
    if not extension:
        return len(data) + _PICKLE_OVERHEAD <= LONGEST_EXTENSION
    whole = TransactionMetaData(extension={**extension, stamp.KEY: data})
    return len(whole.extension_bytes) <= LONGEST_EXTENSION
