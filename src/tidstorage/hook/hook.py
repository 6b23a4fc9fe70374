"""The transaction hook: stamps every commit, and keeps failed ones from doing harm.

It replaces ``Transaction._commitResources`` of the package ``transaction``: when that
is called nothing can join any more, and no ``tpc_begin`` has been called yet.  No
exception of ours ever breaks a commit: it is counted, logged once, and the commit
goes through without a stamp.  What is promised to users stands in ``tidstorage``.
"""

import atexit
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from transaction._transaction import Transaction
from transaction.interfaces import TransientError
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import Connection
from ZODB.DB import DB
from ZODB.mvccadapter import MVCCAdapterInstance, UndoAdapterInstance

from tidstorage.hook import failed_commits
from tidstorage.hook.committing import FailedCommitOptions, Hook, finishing_tids
from tidstorage.hook.databases import ClusterDatabases
from tidstorage.hook.failed_commits import TAKEN_OID
from tidstorage.hook.patch import Method, Patch
from tidstorage.hook.sender import Sender

#: Seconds that the end of the process, or of the hook, waits for the sender.
FLUSH_DEADLINE = 1.0


_active: Hook | None = None


def _commit_resources(original: Method) -> Method:
    def _commitResources(self: Transaction) -> None:
        hook = _active
        if hook is None:
            original(self)
        else:
            hook.commit_resources(self, original)

    return _commitResources


def _savepoint(original: Method) -> Method:
    # A savepoint that fails aborts its resources like a first phase that fails.
    def savepoint(self: Transaction, optimistic: bool = False) -> Any:
        resources = list(self._resources)
        try:
            return original(self, optimistic)
        except Exception as error:
            hook = _active
            if hook is not None and failed_commits.may_spoil_caches(error):
                try:
                    hook.forget_cached(resources)
                except Exception:
                    hook.swallow("clearing caches after a savepoint")
            raise

    return savepoint


def _commit(original: Method) -> Method:
    def _commit(self: Connection, transaction: Any) -> None:
        try:
            original(self, transaction)
        except TransientError:
            hook = _active
            if hook is not None:
                try:
                    vars(self)[TAKEN_OID] = failed_commits.find_taken_oid(self)
                except Exception:
                    hook.swallow("looking at a connection that failed")
            raise

    return _commit


def _invalidate_creating(original: Method) -> Method:
    def _invalidate_creating(
        self: Connection, creating: Iterable[bytes] | None = None
    ) -> None:
        oids: Collection[bytes] = self._creating
        if creating is not None:
            creating = oids = list(creating)
        original(self, creating)
        hook = _active
        if hook is not None and oids:
            try:
                if failed_commits.may_have_disowned(self, oids, hook.stale_oids):
                    hook.forget_cached([self])
            except Exception:
                hook.swallow("looking at objects that are disowned")

    return _invalidate_creating


def _open_database(original: Method) -> Method:
    def __init__(self: DB, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        _tell_databases(ClusterDatabases.add, self)

    return __init__


def _close_database(original: Method) -> Method:
    def close(self: DB) -> None:
        # Before, since its connections do not know afterwards what they saw.
        _tell_databases(ClusterDatabases.keep_seen, self)
        try:
            original(self)
        finally:
            _tell_databases(ClusterDatabases.remove, self)

    return close


def _tell_databases(tell: Callable[[ClusterDatabases, DB], None], database: DB) -> None:
    hook = _active
    if hook is not None:
        try:
            tell(hook.databases, database)
        except Exception:
            hook.swallow("taking note of a database")


def _finish(original: Method) -> Method:
    def tpc_finish(
        self: MVCCAdapterInstance | UndoAdapterInstance,
        transaction: Any,
        func: Callable[[bytes], None] = lambda tid: None,
    ) -> Any:
        finished = finishing_tids.get()
        if finished is None:
            return original(self, transaction, func)

        base = self._base

        def note(tid: bytes) -> None:
            finished.append((base, tid))
            func(tid)

        return original(self, transaction, note)

    return tpc_finish


def _notify_connected(original: Method) -> Method:
    def notify_connected(self: Any, *arguments: Any, **options: Any) -> Any:
        hook = _active
        if hook is not None:
            # Another client may have been given the same ones by a server that
            # was restarted; storing under them would collide.
            if hook.options.drop_oids:
                del self._oids[:]
            else:
                hook.stale_oids.update(self._oids)
        return original(self, *arguments, **options)

    return notify_connected


_patches = [
    Patch(Transaction, "_commitResources", _commit_resources),
    Patch(Transaction, "savepoint", _savepoint),
    Patch(Connection, "_commit", _commit),
    Patch(Connection, "_invalidate_creating", _invalidate_creating),
    Patch(DB, "__init__", _open_database),
    Patch(DB, "close", _close_database),
    Patch(MVCCAdapterInstance, "tpc_finish", _finish),
    Patch(UndoAdapterInstance, "tpc_finish", _finish),
    Patch(ClientStorage, "notify_connected", _notify_connected),
]


def install(
    address: tuple[str, int] | None,
    ids: Mapping[str, str] | None,
    options: FailedCommitOptions,
    name: str = "",
) -> None:
    """See ``tidstorage.install``."""
    global _active
    databases = ClusterDatabases(ids)
    sender = None if address is None else Sender(_checked_address(address), name=name)
    former = _active
    _stop_sender()
    _active = Hook(databases, sender, options)
    for patch in _patches:
        patch.apply()
    # After the patches, so that none that is opened meanwhile is missed.
    databases.add_opened_before()
    if former is not None:
        databases.inherit(former.databases)


def uninstall() -> None:
    """See ``tidstorage.uninstall``."""
    global _active
    for patch in _patches:
        patch.remove()
    _stop_sender()
    _active = None


def statistics() -> dict[str, int]:
    """See ``tidstorage.statistics``."""
    return {} if _active is None else _active.statistics()


def _stop_sender() -> None:
    if _active is not None and _active.sender is not None:
        _active.sender.close(FLUSH_DEADLINE)


def _checked_address(address: tuple[str, int]) -> tuple[str, int]:
    host, port = address
    if not host or not 0 < port < 65_536:
        raise ValueError(f"no address of a daemon: {address!r}")
    return host, port


def _before_fork() -> None:
    _tell_of_fork(ClusterDatabases.before_fork)


def _after_fork_in_child() -> None:
    _tell_of_fork(ClusterDatabases.after_fork_in_child)


def _tell_of_fork(tell: Callable[[ClusterDatabases], None]) -> None:
    hook = _active
    if hook is not None:
        try:
            tell(hook.databases)
        except Exception:
            hook.swallow("taking note of a fork")


atexit.register(_stop_sender)
os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
