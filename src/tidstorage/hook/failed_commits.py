"""A commit that failed must do no further harm.

An exception out of the finish phase does not tell what was written: all resources
had voted, so any of them may be durable.  ZEO raises a *transient* error there, and
a publisher that retries would write twice.

And an exception out of the first phase can make ``Connection._invalidate_creating``
disown, by oid, an object that another client has committed and that is cached here;
later commits then write references to nothing.  The cure is to forget what is cached.
It costs the next request all that it has to load again, so it is taken only where that
may have happened:

- After any failure that is no TransientError: it was not foreseen by whoever raised
  it, and nothing is taken for granted.  The usual collision of oids is one of them.
- After a TransientError, and whenever new objects are disowned for another reason,
  only if one of these has the oid of an object that was there before.  It shows where
  the storing stopped at that oid, where a storage reports a conflict of an object that
  is new here, and where the oid was reserved at a server that was lost since.

An ordinary conflict is of an object that was there before, and spoils nothing.
"""

import sys
from collections.abc import Collection, Iterable, Set
from typing import Any

from transaction.interfaces import TransactionError, TransientError
from ZODB.Connection import Connection
from ZODB.POSException import ConflictError
from ZODB.utils import z64

#: The attribute of a connection that keeps what ``find_taken_oid`` found.
TAKEN_OID = "_tidstorage_taken_oid"


class CommitOutcomeUnknown(TransactionError):  # type: ignore[misc]
    """A commit failed after every storage had agreed to it.

    Each of them may hold the transaction, or not; the cause tells what went
    wrong.  It is no TransientError: to retry might write everything twice.

    commit_id: hex, as the daemon and ``tidstorage-cut`` name the transaction;
        None where it was not stamped.
    participants: ids of the storages of the cluster that it wrote.
    """

    def __init__(self, commit_id: str | None, participants: Collection[str]) -> None:
        self.commit_id = commit_id
        self.participants = tuple(sorted(participants))
        super().__init__(
            f"commit {commit_id or '(unstamped)'} failed while it was being"
            " finished: each of its storages"
            f" ({', '.join(self.participants) or 'unknown'}) may hold it or not."
            " Look at the data before repeating it."
        )

    def __reduce__(self) -> tuple[type, tuple[str | None, tuple[str, ...]]]:
        return type(self), (self.commit_id, self.participants)


def finish_was_reached(transaction: Any) -> bool:
    """Whether every resource had voted, so that finishing may have begun."""
    return all(
        id(resource) in transaction._voted for resource in transaction._resources
    )


def may_spoil_caches(error: BaseException) -> bool:
    """Whether caches are to be forgotten after an error, whatever else is known."""
    return not isinstance(error, TransientError)


def find_taken_oid(connection: Connection) -> bytes | None:
    """The oid at which ``_commit`` stopped, where another's object is cached with it.

    To be called before the transaction is aborted.
    """
    # An oid is noted before its object is stored, and the object is cached only
    # afterwards: those before the last one are cached as the new objects.
    oid: bytes | None = next(reversed(connection._creating), None)
    cached = None if oid is None else connection._cache.get(oid)
    if cached is None:
        return None
    if cached._p_serial == z64 and cached._p_changed is not None:
        # It has a state that was never loaded: it is the new object.
        return None
    savepoint = connection._savepoint_storage
    if savepoint is not None and oid in savepoint.creating:
        # The new object, which is a ghost since an earlier savepoint.
        return None
    return oid


def may_have_disowned(
    connection: Connection, creating: Collection[bytes], stale_oids: Set[bytes]
) -> bool:
    """Whether disowning its new objects may have met objects of others.

    creating: the oids of the new objects.  stale_oids: those that were reserved at a
    server that was lost since.
    """
    taken = vars(connection).pop(TAKEN_OID, None)
    if taken is not None and taken in creating:
        return True
    # Aborting is done while the failure is being handled.
    error = sys.exc_info()[1]
    if isinstance(error, ConflictError) and error.oid in creating:
        return True
    return not stale_oids.isdisjoint(creating)


def forget_cached(resources: Iterable[object]) -> None:
    """Ghostify what the connections among the resources, and their siblings, cache.

    Parents are then loaded again, and with them the references to objects that
    were wrongly disowned.
    """
    connections: dict[int, Connection] = {}
    for resource in resources:
        if isinstance(resource, Connection):
            connections[id(resource)] = resource
            connections.update(
                (id(sibling), sibling)
                for sibling in list(resource.connections.values())
            )
    for connection in connections.values():
        connection._cache.minimize()
