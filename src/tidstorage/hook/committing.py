"""What the hook does around one commit: before it, after it, and when it fails."""

import logging
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tidstorage.coherence import stamp
from tidstorage.hook import failed_commits
from tidstorage.hook.commit import DATABASE_RESOURCES, Commit, put_stamp
from tidstorage.hook.databases import ClusterDatabases
from tidstorage.hook.patch import Method
from tidstorage.hook.sender import Sender

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FailedCommitOptions:
    """What is done about commits that fail; explained by ``tidstorage.install``."""

    outcome_unknown: bool = True
    clear_caches: bool = True
    drop_oids: bool = True


#: (MVCC adapter, TID) of each storage that the commit under way has finished; None:
#: there is no commit.  A context variable, since greenlets have contexts of their own
#: also where gevent came too late to patch ``threading.local``.
finishing_tids: ContextVar[list[tuple[Any, bytes]] | None] = ContextVar(
    "tids of the commit under way", default=None
)


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
        #: Oids that were reserved at ZEO servers which were lost since.
        self.stale_oids: set[bytes] = set()
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
        outer = finishing_tids.get()
        finishing_tids.set(commit.finished)
        try:
            original(transaction)
        except BaseException as error:
            unknown = self._failed(transaction, commit, error)
            if unknown is not None:
                raise unknown from error
            raise
        finally:
            finishing_tids.set(outer)
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
            if finishing or failed_commits.may_spoil_caches(error):
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
