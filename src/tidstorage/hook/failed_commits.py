"""A commit that failed must do no further harm.

An exception out of the finish phase does not tell what was written: all resources
had voted, so any of them may be durable.  ZEO raises a *transient* error there, and
a publisher that retries would write twice.  And an exception out of the first phase
can make ``Connection._invalidate_creating`` disown, by oid, an object
that another client has committed and that is cached here; later commits then
write references to nothing.
"""

from collections.abc import Collection, Iterable
from typing import Any

from transaction.interfaces import TransactionError
from ZODB.Connection import Connection
from ZODB.POSException import ConflictError


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


def may_spoil_caches(transaction: Any, error: BaseException) -> bool:
    """Whether a failure can leave wrong objects in the caches.

    An ordinary conflict, noticed before any resource had voted, cannot; it is
    also far too frequent to throw caches away for.
    """
    return bool(transaction._voted) or not isinstance(error, ConflictError)


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
