"""Which databases of this process are storages of the cluster.

Every database is known from ``ZODB.DB.__init__`` to ``close`` (the hook wraps
both); what was open before is found once through the garbage collector, and
what that does not show when its first connection joins a transaction.  All
references to databases are weak.  What the process has seen of a storage is kept
after the last database of it is closed: it may have it in variables, and write it
elsewhere.

No lock is taken here.  A finalizer or a signal handler that opens, closes or commits
may run between any two instructions, also of the thread that would hold the lock, and
a fork copies locks whose holders it leaves behind.  So the dictionaries are changed by
single operations, each of them whole for whoever comes between, and read as copies;
what is made of them is swapped in by an assignment.
"""

import contextlib
import gc
import logging
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from ZODB.DB import DB

from tidstorage.coherence import stamp
from tidstorage.hook.open_storages import (
    NOTHING_SEEN,
    OpenStorage,
    OpenStorages,
    know_nothing_new,
)

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


class _Known:
    """What is known of one database.

    storage: None where it is not the cluster's.  is_unclear: its id was no proper one
    when it was last looked at, so that nothing is stamped with it.
    """

    __slots__ = ("is_unclear", "name", "storage")

    def __init__(self, name: str, storage: OpenStorage | None) -> None:
        self.name = name
        self.storage = storage
        self.is_unclear = False


class ClusterDatabases:
    """The databases of this process, under one configuration of ids.

    Every method may be called in any thread, finalizer or signal handler.
    """

    def __init__(self, ids: Mapping[str, str] | None) -> None:
        """ids: {database name: storage id}, or None to go by their names.

        Raises: ValueError: where an id cannot be one, or stands twice.
        """
        self._ids = None if ids is None else check_ids(ids)
        # Keys are references, not id(database), which may be another's later.
        self._known: dict[weakref.ref[DB], _Known] = {}
        # {storage id: what was seen of it through databases that are closed}
        self._closed: dict[str, OpenStorage] = {}
        self._warned: set[str] = set()
        # A new one after each change; no number, which two threads might both
        # count up to the same.
        self._version = object()
        self._opened = OpenStorages(None, {}, (), True)

    def add(self, database: DB) -> None:
        """Take note of an open database and of those it is mounted with."""
        for added in (database, *list(database.databases.values())):
            reference = weakref.ref(added, self._changed)
            if reference not in self._known and is_open(added):
                known = _Known(added.database_name, self._make_storage(added))
                self._known.setdefault(reference, known)
        self._changed()

    def add_opened_before(self) -> None:
        """Take note of every database that was opened before, and is open still."""
        for candidate in gc.get_objects():
            # By type(), since isinstance() runs foreign code on some objects.
            if issubclass(type(candidate), DB) and is_open(candidate):
                self.add(candidate)

    def inherit(self, former: "ClusterDatabases") -> None:
        """Take over what was seen under the former configuration, if that is this."""
        if former._ids == self._ids:
            for storage in former.list_open().storages:
                self._keep(storage)
            self._changed()

    def keep_seen(self, database: DB) -> None:
        """Keep what was seen of a database that is about to be closed."""
        reference = weakref.ref(database)
        if reference not in self._known:
            self.add(database)
        # Looks at all ids, too.
        self.list_open()
        known = self._known.get(reference)
        if known is None or known.storage is None or known.is_unclear:
            return
        storage = known.storage
        storage.raise_to_last_transaction()
        # ZEO announces a transaction to connections before its last TID moves.
        database._connectionMap(
            lambda connection: storage.raise_bound(storage.find_bound(connection))
        )

    def remove(self, database: DB) -> None:
        """Forget a database that is closed, but not what was seen of it."""
        self._let_go(weakref.ref(database))
        self._changed()

    def before_fork(self) -> None:
        """Note what is known now, since the child cannot ask clients of the parent."""
        for storage in self.list_open().storages:
            with contextlib.suppress(Exception):
                storage.raise_to_last_transaction()

    def after_fork_in_child(self) -> None:
        """Leave the clients to the parent, as far as the child does not write too."""
        for known in self._known.copy().values():
            if known.storage is not None:
                known.storage.leave_to_parent()

    def _changed(self, reference: object = None) -> None:
        # Called by the collector too, anywhere.
        self._version = object()

    def list_open(self) -> OpenStorages:
        """The cluster's storages that are known now; the same object while they are.

        On the path of every commit: only where something changed it does anything.
        """
        opened = self._opened
        if opened.version is not self._version:
            # Where another thread does the same, the last one's is kept.  Should
            # that be an older one, its version says so the next time.
            opened = self._opened = self._build()
        return opened

    def _build(self) -> OpenStorages:
        # First of all, so that what changes meanwhile is looked at the next time.
        version = self._version
        by_database: dict[int, OpenStorage | None] = {}
        by_id: dict[str, list[_Known]] = {}
        for reference, known in self._known.copy().items():
            database = reference()
            if database is None or not is_open(database):
                self._let_go(reference)
                continue
            storage = by_database[id(database)] = known.storage
            if storage is not None:
                by_id.setdefault(storage.storage_id, []).append(known)
        refusals = list(self._refuse(by_id))
        for refusal in refusals:
            self._say_once(logging.ERROR, f"commits are not stamped: {refusal}")
        closed = []
        for storage_id, storage in self._closed.copy().items():
            for known in by_id.get(storage_id, ()):
                if known.storage is not None:
                    known.storage.raise_bound(storage.bound)
            if storage_id not in by_id:
                closed.append(storage)
        return OpenStorages(version, by_database, closed, not refusals)

    def _refuse(self, by_id: Mapping[str, list[_Known]]) -> Iterator[str]:
        """Why it cannot be told which storage a database is; marks them."""
        for storage_id, several in by_id.items():
            unnamed = self._ids is None and storage_id == _ZEO_DEFAULT
            for known in several:
                known.is_unclear = unnamed or len(several) > 1
                if unnamed:
                    yield (
                        f"database {known.name!r} has the storage id"
                        f" {_ZEO_DEFAULT!r}, ZEO's default; name its storage, or map"
                        " it with ids"
                    )
            if len(several) > 1:
                names = " and ".join(repr(known.name) for known in several)
                yield f"databases {names} have one storage id, {storage_id!r}"

    def _let_go(self, reference: weakref.ref[DB]) -> None:
        """Forget a database; keep the last that its client knew."""
        known = self._known.get(reference)
        if known is None:
            return
        storage = known.storage
        if storage is not None:
            if not known.is_unclear:
                # A storage that is closed need not answer.
                with contextlib.suppress(Exception):
                    storage.raise_to_last_transaction()
            self._keep(storage)
        # Only now, so that whoever comes between finds it in one of the two.
        self._known.pop(reference, None)

    def _keep(self, storage: OpenStorage) -> None:
        if storage.bound > NOTHING_SEEN:
            closed = OpenStorage(storage.storage_id, know_nothing_new)
            kept = self._closed.setdefault(storage.storage_id, closed)
            kept.raise_bound(storage.bound)

    def _make_storage(self, database: DB) -> OpenStorage | None:
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
