"""Which open databases of this process are storages of the cluster.

Every database is known from ``ZODB.DB.__init__`` to ``close`` (the hook wraps
both); what was open before is found once through the garbage collector, and
what that does not show when its first connection joins a transaction.  All
references to databases are weak.
"""

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ZODB.DB import DB

from tidstorage.coherence import stamp, tid

logger = logging.getLogger(__name__)

#: Storages that keep nothing on disk, or another's data: never members.
_PASSING = {
    ("ZODB.MappingStorage", "MappingStorage"),
    ("ZODB.DemoStorage", "DemoStorage"),
    ("tempstorage.TemporaryStorage", "TemporaryStorage"),
}
_CLIENT_STORAGE = ("ZEO.ClientStorage", "ClientStorage")
#: Where wrappers keep what they wrap (zlibstorage, BlobStorage, adapters...).
_WRAPPED = ("base", "_base", "_storage", "storage", "_BlobStorage__storage")
#: The name of a ZEO storage that nobody named.
_ZEO_DEFAULT = "1"


class Member:
    """A storage of the cluster that is open here.

    bound: 8 bytes, exclusive: the most that was ever known of it in this
        process, also while a ZEO client that reconnects has forgotten its last
        TID.
    as_reader, as_participant: heads of its part in a stamp.
    """

    __slots__ = (
        "as_participant",
        "as_reader",
        "bound",
        "last_transaction",
        "storage_id",
    )

    def __init__(
        self, storage_id: str, last_transaction: Callable[[], bytes | None]
    ) -> None:
        self.storage_id = storage_id
        self.last_transaction = last_transaction
        self.bound = bound_after(bytes(8))
        self.as_reader = stamp.head(storage_id, False)
        self.as_participant = stamp.head(storage_id, True)


def bound_after(last: bytes) -> bytes:
    """The exclusive bound for a last TID, both 8 bytes."""
    return tid.to_bytes(tid.from_bytes(last) + 1)


class Table:
    """All that is known at one moment; never changed afterwards.

    by_database: {id(database): member, or None where it is not one}.
    stampable: whether ids are clear enough to stamp with.
    """

    __slots__ = ("by_database", "generation", "members", "stampable")

    def __init__(
        self,
        generation: int,
        by_database: Mapping[int, Member | None],
        stampable: bool,
    ) -> None:
        self.generation = generation
        self.by_database = by_database
        self.members = tuple(filter(None, by_database.values()))
        self.stampable = stampable


class Membership:
    """The databases of this process, under one configuration of ids."""

    def __init__(self, ids: Mapping[str, str] | None) -> None:
        """ids: {database name: storage id}, or None to go by their names."""
        self._ids = None if ids is None else checked_ids(ids)
        self._lock = threading.Lock()
        self._databases: dict[int, weakref.ref[DB]] = {}
        self._known: dict[int, tuple[weakref.ref[DB], Member]] = {}
        self._warned: set[str] = set()
        # Counted up without the lock: the collector calls _changed anywhere.
        self._generation = 0
        self._table = Table(-1, {}, True)

    def add(self, database: DB) -> None:
        """Take note of an open database and of those it is mounted with."""
        with self._lock:
            for each in (database, *list(database.databases.values())):
                self._databases[id(each)] = weakref.ref(each, self._changed)
            self._changed()

    def add_open_ones(self) -> None:
        """Take note of every database that was opened before."""
        for found in gc.get_objects():
            # By type(), since isinstance() runs foreign code on some objects.
            if issubclass(type(found), DB) and is_open(found):
                self.add(found)

    def remove(self, database: DB) -> None:
        """Forget a database that is closed."""
        with self._lock:
            self._databases.pop(id(database), None)
            self._changed()

    def renew_lock(self) -> None:
        """Free the lock in a forked child, where its holder does not run."""
        self._lock = threading.Lock()

    def _changed(self, reference: object = None) -> None:
        self._generation += 1

    def table(self) -> Table:
        """The present members."""
        table = self._table
        if table.generation == self._generation:
            return table
        with self._lock:
            self._table = self._build(self._generation)
            return self._table

    def _build(self, generation: int) -> Table:
        by_database: dict[int, Member | None] = {}
        known: dict[int, tuple[weakref.ref[DB], Member]] = {}
        owners: dict[str, str] = {}
        refusals: list[str] = []
        for key, reference in list(self._databases.items()):
            database = reference()
            if database is None or not is_open(database):
                del self._databases[key]
                continue
            member = self._member(key, database)
            by_database[key] = member
            if member is None:
                continue
            known[key] = (reference, member)
            name = database.database_name
            if self._ids is None and member.storage_id == _ZEO_DEFAULT:
                refusals.append(
                    f"database {name!r} has the storage id {_ZEO_DEFAULT!r}, ZEO's"
                    " default; name its storage, or map it with ids"
                )
            if member.storage_id in owners:
                refusals.append(
                    f"databases {owners[member.storage_id]!r} and {name!r} have one"
                    f" storage id, {member.storage_id!r}"
                )
            owners[member.storage_id] = name
        self._known = known
        for refusal in refusals:
            self._say_once(logging.ERROR, f"commits are not stamped: {refusal}")
        return Table(generation, by_database, not refusals)

    def _member(self, key: int, database: DB) -> Member | None:
        reference, member = self._known.get(key, (None, None))
        if reference is not None and reference() is database:
            return member
        storage_id = self._storage_id(database)
        if storage_id is None:
            return None
        return Member(storage_id, database.storage.lastTransaction)

    def _storage_id(self, database: DB) -> str | None:
        innermost = database.storage
        for storage in _layers(database.storage):
            innermost = storage
            if not _PASSING.isdisjoint(_classes(storage)):
                return None
        name: str = database.database_name
        if self._ids is None:
            if _CLIENT_STORAGE in _classes(innermost):
                name = innermost._storage
            return checked_id(name)
        if name not in self._ids:
            self._say_once(
                logging.WARNING,
                f"database {name!r} is none of the cluster's"
                f" ({', '.join(sorted(self._ids))}): what is committed to it is not"
                " covered by coherent backups",
            )
        return self._ids.get(name)

    def _say_once(self, level: int, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.log(level, text)


def is_open(database: DB) -> bool:
    """Whether it is past ``__init__`` and before ``close``."""
    attributes = vars(database)
    return "storage" in attributes and "database_name" in attributes


def checked_ids(ids: Mapping[str, str]) -> dict[str, str]:
    """A copy of {database name: storage id}; ValueError where it cannot be."""
    for storage_id in ids.values():
        checked_id(storage_id)
    if len(set(ids.values())) < len(ids):
        raise ValueError(f"two databases have one storage id: {dict(ids)}")
    return dict(ids)


def checked_id(storage_id: str) -> str:
    """The id; ValueError where it fits neither stamps nor messages."""
    stamp.encode(bytes(stamp.COMMIT_ID_LENGTH), (storage_id,), {})
    if not storage_id.isprintable():
        raise ValueError(f"a storage id is one printable line: {storage_id!r}")
    return storage_id


def _classes(storage: object) -> set[tuple[str, str]]:
    return {(each.__module__, each.__name__) for each in type(storage).__mro__}


def _layers(storage: Any) -> Iterator[Any]:
    """The storage and what it wraps, from the outside in."""
    while storage is not None:
        yield storage
        if _CLIENT_STORAGE in _classes(storage):
            return
        # vars(), since wrappers answer getattr() for what they wrap.
        own = getattr(storage, "__dict__", {})
        inside = (own.get(name) for name in _WRAPPED)
        storage = next((each for each in inside if hasattr(each, "tpc_vote")), None)
