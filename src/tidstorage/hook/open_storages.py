"""What this process could have seen of each storage of the cluster.

Bounds are raised without a lock: where two threads do so at once the lower bound may be
left.  The next stamp raises it again.
"""

from collections.abc import Callable, Iterable, Mapping

from ZODB.Connection import Connection

from tidstorage.coherence import stamp, tid


class OpenStorage:
    """A storage of the cluster that is open in this process, or was.

    last_transaction: the TID that its client calls the last one, 8 bytes; None where
        it knows none, or cannot be asked.
    inherited: the ``last_transaction`` of a parent process, where this one was forked
        since; else None.
    bound: exclusive, 8 bytes: one above the greatest TID that was ever known of it
        in this process.  It stays, also while a ZEO client that reconnects has
        forgotten its last TID, and after it is closed.
    as_reader, as_participant: how its part in a stamp begins.
    """

    __slots__ = (
        "as_participant",
        "as_reader",
        "bound",
        "inherited",
        "last_transaction",
        "storage_id",
    )

    def __init__(
        self, storage_id: str, last_transaction: Callable[[], bytes | None]
    ) -> None:
        self.storage_id = storage_id
        self.last_transaction = last_transaction
        self.inherited: Callable[[], bytes | None] | None = None
        self.bound = NOTHING_SEEN
        self.as_reader = stamp.head(storage_id, False)
        self.as_participant = stamp.head(storage_id, True)

    def raise_bound(self, bound: bytes | None) -> None:
        """Take note that what is below an exclusive bound of 8 bytes was seen."""
        if bound is not None and bound > self.bound:
            self.bound = bound

    def raise_to_last_transaction(self) -> None:
        """Take note that what its client has now was seen."""
        last = self.last_transaction()
        if last is not None:
            self.raise_bound(bound_after(last))

    def find_bound(self, connection: Connection) -> bytes | None:
        """The exclusive bound of what its connection may see; None: that is nothing."""
        # None in explicit mode before begin; absent on historical connections,
        # and on storages with an MVCC of their own, which know their last poll.
        instance = connection._normal_storage
        bound: bytes | None = getattr(instance, "_start", None)
        if bound is not None or instance is None or self.inherited is not None:
            return bound
        last = instance.lastTransaction()
        return None if last is None else bound_after(last)

    def leave_to_parent(self) -> None:
        """Ask the client nothing more, in a forked child.

        A thread that did not come along may hold its locks, and where it is a ZEO
        client its connection is the parent's.  What it knew stays in ``bound``.
        """
        if self.inherited is None:
            self.inherited = self.last_transaction
            self.last_transaction = know_nothing_new

    def take_over(self) -> None:
        """Ask the client again, in a child that has begun to write through it."""
        if self.inherited is not None:
            self.last_transaction, self.inherited = self.inherited, None


def know_nothing_new() -> None:
    """The ``last_transaction`` of a storage that cannot be asked."""


def bound_after(last: bytes) -> bytes:
    """The exclusive bound that a last TID gives, both 8 bytes."""
    return tid.to_bytes(tid.from_bytes(last) + 1)


#: The bound of a storage that has no transaction, or that nobody looked at.
NOTHING_SEEN = bound_after(bytes(8))


class OpenStorages:
    """The cluster's storages that are known at one moment; never changed afterwards.

    version: what ``ClusterDatabases`` was at, an object that is only compared.
    by_database: {id(database): its storage, or None where that is not the
        cluster's}, of open databases.  One that is not in it was not looked at.
    storages: those of ``by_database``, and those that were open before.
    stampable: whether ids are clear enough to stamp with.
    """

    __slots__ = ("by_database", "stampable", "storages", "version")

    def __init__(
        self,
        version: object,
        by_database: Mapping[int, OpenStorage | None],
        closed: Iterable[OpenStorage],
        stampable: bool,
    ) -> None:
        self.version = version
        self.by_database = by_database
        self.storages = (*filter(None, by_database.values()), *closed)
        self.stampable = stampable
