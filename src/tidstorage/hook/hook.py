"""The transaction hook: stamps every commit, and keeps failed ones from doing harm.

It replaces ``Transaction._commitResources`` of the package ``transaction``: when that
is called nothing can join any more, and no ``tpc_begin`` has been called yet.  No
exception of ours ever breaks a commit: it is counted, logged once, and the commit
goes through without a stamp.  What is promised to users stands in ``tidstorage``.
"""

import atexit
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transaction._transaction import Transaction
from ZEO.ClientStorage import ClientStorage
from ZODB.DB import DB
from ZODB.mvccadapter import MVCCAdapterInstance, UndoAdapterInstance

from tidstorage.coherence import stamp
from tidstorage.hook import failed_commits
from tidstorage.hook.commit import DATABASE_RESOURCES, Commit, put_stamp
from tidstorage.hook.databases import ClusterDatabases
from tidstorage.hook.patch import Method, Patch
from tidstorage.hook.sender import Sender

logger = logging.getLogger(__name__)

#: Seconds that the end of the process, or of the hook, waits for the sender.
FLUSH_DEADLINE = 1.0


@dataclass(frozen=True, slots=True)
class FailedCommitOptions:
    """What is done about commits that fail; explained by ``tidstorage.install``."""

    outcome_unknown: bool = True
    clear_caches: bool = True
    drop_oids: bool = True


class _Finishing(threading.local):
    """Where this thread notes the TIDs of the commit under way; None: there is none."""

    finished: list[tuple[Any, bytes]] | None = None


_finishing = _Finishing()


class Hook:
    """What one call of ``install`` set up: does the work at each commit.

    Its methods are called in committing threads, many at once.  Counters are added
    to without a lock: an addition may be lost, a commit never waits for one.
    """

    def __init__(
        self,
        databases: ClusterDatabases,
        sender: Sender | None,
        options: FailedCommitOptions,
    ) -> None:
        self.databases = databases
        self.sender = sender
        self.options = options
        self._stamped = 0
        self._unstamped = 0
        self._errors = 0
        self._outcome_unknown = 0
        self._caches_cleared = 0
        self._logged: set[str] = set()

    def statistics(self) -> dict[str, int]:
        """See ``tidstorage.statistics``."""
        counts = {"sent": 0, "dropped": 0, "connected": 0}
        if self.sender is not None:
            counts = self.sender.statistics()
        return {
            "stamped": self._stamped,
            "unstamped": self._unstamped,
            "errors": self._errors,
            "outcome_unknown": self._outcome_unknown,
            "caches_cleared": self._caches_cleared,
            **counts,
        }

    def commit_resources(self, transaction: Any, original: Method) -> None:
        """``Transaction._commitResources`` with everything around it."""
        resources = [
            resource
            for resource in transaction._resources
            if isinstance(resource, DATABASE_RESOURCES)
        ]
        if not resources:
            original(transaction)
            return
        commit = Commit(resources)
        self._before(transaction, commit)
        outer, _finishing.finished = _finishing.finished, commit.finished
        try:
            original(transaction)
        except BaseException as error:
            unknown = self._failed(transaction, commit, error)
            if unknown is not None:
                raise unknown from error
            raise
        finally:
            _finishing.finished = outer
        self._committed(commit)

    def _before(self, transaction: Any, commit: Commit) -> None:
        """Stamp the commit, and tell the daemon that it begins."""
        try:
            if put_stamp(transaction, commit, self.databases):
                self._stamped += 1
            elif commit.participants:
                self._unstamped += 1
        except Exception:
            # DoesNotFit, or a defect of ours.
            self._unstamped += 1
            self.swallow("stamping a commit")
            return
        if self.sender is None or commit.commit_id is None:
            return
        try:
            commit.told = self.sender.begin(commit.commit_id, commit.participant_ids())
        except Exception:
            self.swallow("announcing a commit")

    def _failed(
        self, transaction: Any, commit: Commit, error: BaseException
    ) -> failed_commits.CommitOutcomeUnknown | None:
        """Keep the failure from doing harm.

        The exception to raise in its place, or None to raise it as it is.
        """
        unknown = None
        try:
            finishing = failed_commits.finish_was_reached(transaction)
            if finishing:
                self._outcome_unknown += 1
                if self.options.outcome_unknown and isinstance(error, Exception):
                    unknown = failed_commits.CommitOutcomeUnknown(
                        commit.commit_id, commit.participant_ids()
                    )
            if finishing or failed_commits.may_spoil_caches(transaction, error):
                self.forget_cached(commit.resources)
            # Where the outcome is unknown the daemon is told nothing: it reads it
            # from the storages.
            if commit.told and self.sender is not None and not finishing:
                assert commit.commit_id is not None
                self.sender.abort(commit.commit_id)
            transaction.extension.pop(stamp.KEY, None)
        except Exception:
            self.swallow("containing a failed commit")
        return unknown

    def forget_cached(self, resources: Iterable[object]) -> None:
        """Clear the caches of the resources' connections, where that is on."""
        if self.options.clear_caches:
            self._caches_cleared += 1
            failed_commits.forget_cached(resources)

    def _committed(self, commit: Commit) -> None:
        if not commit.told or self.sender is None or commit.commit_id is None:
            return
        try:
            self.sender.commit(commit.commit_id, commit.tids())
        except Exception:
            self.swallow("telling of a commit")

    def swallow(self, doing: str) -> None:
        """Count the exception being handled; log the first one of each ``doing``."""
        self._errors += 1
        if doing not in self._logged:
            self._logged.add(doing)
            logger.exception("%s failed; the commit itself goes on", doing)


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
            if hook is not None and failed_commits.may_spoil_caches(self, error):
                try:
                    hook.forget_cached(resources)
                except Exception:
                    hook.swallow("clearing caches after a savepoint")
            raise

    return savepoint


def _open_database(original: Method) -> Method:
    def __init__(self: DB, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        _tell_databases(ClusterDatabases.add, self)

    return __init__


def _close_database(original: Method) -> Method:
    def close(self: DB) -> None:
        original(self)
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
        finished = _finishing.finished
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
        if _active is not None and _active.options.drop_oids:
            # Another client may have been given the same ones by a server that
            # was restarted; storing under them would collide.
            del self._oids[:]
        return original(self, *arguments, **options)

    return notify_connected


_patches = [
    Patch(Transaction, "_commitResources", _commit_resources),
    Patch(Transaction, "savepoint", _savepoint),
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
    _stop_sender()
    _active = Hook(databases, sender, options)
    for patch in _patches:
        patch.apply()
    # After the patches, so that none that is opened meanwhile is missed.
    databases.add_opened_before()


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


def _after_fork_in_child() -> None:
    # Another thread, which did not come along, may hold the lock.
    if _active is not None:
        _active.databases.renew_lock()


atexit.register(_stop_sender)
os.register_at_fork(after_in_child=_after_fork_in_child)
