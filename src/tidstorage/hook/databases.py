"""Which databases of this process are storages of the cluster.

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

#: Storages that keep nothing on disk, or another's data: never the cluster's.
_TRANSIENT = {
    ("ZODB.MappingStorage", "MappingStorage"),
    ("ZODB.DemoStorage", "DemoStorage"),
    ("tempstorage.TemporaryStorage", "TemporaryStorage"),
}
_CLIENT_STORAGE = ("ZEO.ClientStorage", "ClientStorage")
#: Where wrappers keep what they wrap (zlibstorage, BlobStorage, adapters...).
_WRAPPED = ("base", "_base", "_storage", "storage", "_BlobStorage__storage")
#: The name of a ZEO storage that nobody named.
_ZEO_DEFAULT = "1"


class OpenStorage:
    """A storage of the cluster that is open in this process.

    last_transaction: the TID that its client calls the last one, 8 bytes; None where
        it knows none.
    bound: exclusive, 8 bytes: one above the greatest TID that was ever known of it
        in this process.  It stays, also while a ZEO client that reconnects has
        forgotten its last TID.
    as_reader, as_participant: how its part in a stamp begins.
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
    """The exclusive bound that a last TID gives, both 8 bytes."""
    return tid.to_bytes(tid.from_bytes(last) + 1)


class OpenStorages:
    """The cluster's storages that are open at one moment; never changed afterwards.

    by_database: {id(database): its storage, or None where that is not the
        cluster's}.  A database that is not in it has not been looked at.
    stampable: whether ids are clear enough to stamp with.
    """

    __slots__ = ("by_database", "generation", "stampable", "storages")

    def __init__(
        self,
        generation: int,
        by_database: Mapping[int, OpenStorage | None],
        stampable: bool,
    ) -> None:
        self.generation = generation
        self.by_database = by_database
        self.storages = tuple(filter(None, by_database.values()))
        self.stampable = stampable


class ClusterDatabases:
    """The databases of this process, under one configuration of ids.

    Every method may be called in any thread.
    """

    def __init__(self, ids: Mapping[str, str] | None) -> None:
        """ids: {database name: storage id}, or None to go by their names.

        Raises: ValueError: where an id cannot be one, or stands twice.
        """
        self._ids = None if ids is None else check_ids(ids)
        self._lock = threading.Lock()
        self._databases: dict[int, weakref.ref[DB]] = {}
        self._known: dict[int, tuple[weakref.ref[DB], OpenStorage]] = {}
        self._warned: set[str] = set()
        # Counted up without the lock: the collector calls _changed anywhere.
        self._generation = 0
        self._opened = OpenStorages(-1, {}, True)

    def add(self, database: DB) -> None:
        """Take note of an open database and of those it is mounted with."""
        with self._lock:
            for known in (database, *list(database.databases.values())):
                self._databases[id(known)] = weakref.ref(known, self._changed)
            self._changed()

    def add_opened_before(self) -> None:
        """Take note of every database that was opened before, and is open still."""
        for candidate in gc.get_objects():
            # By type(), since isinstance() runs foreign code on some objects.
            if issubclass(type(candidate), DB) and is_open(candidate):
                self.add(candidate)

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

    def list_open(self) -> OpenStorages:
        """The cluster's storages that are open now; the same object while they are.

        On the path of every commit: it takes the lock only where something changed.
        """
        opened = self._opened
        if opened.generation == self._generation:
            return opened
        with self._lock:
            self._opened = self._build(self._generation)
            return self._opened

    def _build(self, generation: int) -> OpenStorages:
        by_database: dict[int, OpenStorage | None] = {}
        known: dict[int, tuple[weakref.ref[DB], OpenStorage]] = {}
        owners: dict[str, str] = {}
        refusals: list[str] = []
        for key, reference in list(self._databases.items()):
            database = reference()
            if database is None or not is_open(database):
                del self._databases[key]
                continue
            storage = self._make_storage(key, database)
            by_database[key] = storage
            if storage is None:
                continue
            known[key] = (reference, storage)
            name = database.database_name
            if self._ids is None and storage.storage_id == _ZEO_DEFAULT:
                refusals.append(
                    f"database {name!r} has the storage id {_ZEO_DEFAULT!r}, ZEO's"
                    " default; name its storage, or map it with ids"
                )
            if storage.storage_id in owners:
                refusals.append(
                    f"databases {owners[storage.storage_id]!r} and {name!r} have one"
                    f" storage id, {storage.storage_id!r}"
                )
            owners[storage.storage_id] = name
        self._known = known
        for refusal in refusals:
            self._say_once(logging.ERROR, f"commits are not stamped: {refusal}")
        return OpenStorages(generation, by_database, not refusals)

    def _make_storage(self, key: int, database: DB) -> OpenStorage | None:
        reference, storage = self._known.get(key, (None, None))
        if reference is not None and reference() is database:
            return storage
        storage_id = self._find_id(database)
        if storage_id is None:
            return None
        return OpenStorage(storage_id, database.storage.lastTransaction)

    def _find_id(self, database: DB) -> str | None:
        innermost = database.storage
        for storage in _layers(database.storage):
            innermost = storage
            if not _TRANSIENT.isdisjoint(_classes(storage)):
                return None
        name: str = database.database_name
        if self._ids is None:
            if _CLIENT_STORAGE in _classes(innermost):
                name = innermost._storage
            return check_id(name)
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


def check_ids(ids: Mapping[str, str]) -> dict[str, str]:
    """A copy of {database name: storage id}.

    Raises: ValueError: where an id cannot be one, or stands twice.
    """
    for storage_id in ids.values():
        check_id(storage_id)
    if len(set(ids.values())) < len(ids):
        raise ValueError(f"two databases have one storage id: {dict(ids)}")
    return dict(ids)


def check_id(storage_id: str) -> str:
    """The same id.

    Raises: ValueError: where it is too long for a stamp, or no printable line.
    """
    stamp.encode(bytes(stamp.COMMIT_ID_LENGTH), (storage_id,), {})
    if not storage_id.isprintable():
        raise ValueError(f"a storage id is one printable line: {storage_id!r}")
    return storage_id


def _classes(storage: object) -> set[tuple[str, str]]:
    return {(base.__module__, base.__name__) for base in type(storage).__mro__}


def _layers(storage: Any) -> Iterator[Any]:
    """The storage and what it wraps, from the outside in."""
    while storage is not None:
        yield storage
        if _CLIENT_STORAGE in _classes(storage):
            return
        # vars(), since wrappers answer getattr() for what they wrap.
        own = getattr(storage, "__dict__", {})
        inside = (own.get(name) for name in _WRAPPED)
        storage = next((inner for inner in inside if hasattr(inner, "tpc_vote")), None)
