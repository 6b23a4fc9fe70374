"""Consistent backup and restore for clusters of several ZODB storages.

This is the public surface of the library; other modules may change, but for
`CommitOutcomeUnknown` in ``tidstorage.hook.failed_commits``.  ``install()`` makes this
process stamp its transactions: any set of copies of the cluster's files, however they
were taken, can then be cut coherently.  ``uninstall()`` takes that back, and
``statistics()`` tells what happened meanwhile.  An application without Zope (Pyramid,
scripts that write) calls ``install()`` once, at its start.  Zope does not call it:
the product ``Products.TIDStorage`` does, as zope.conf tells it.

What the three functions promise:

- **A commit never fails because of us.**  What goes wrong in the hook is counted,
  logged once, and the commit goes through without a stamp.  Points past an
  unstamped record are published as unverified.
- **A commit never waits for us.**  A stamp costs microseconds (about 5 for 4
  storages, 45 for 60).  The daemon is told through a bounded queue by a thread of
  our own.  While it is down, stopped or unreachable up to 10,000 messages wait; then
  new transactions are left out and counted.  It reads what it missed from the
  storages.
- **A stamp changes no object.**  It is one key, ``tids``, of
  ``transaction.extension``, written after all resources have joined.  A stamp that a
  failed commit left there is removed.
- **Only the cluster's databases count.**  A transaction that writes none of them is
  left alone, and so are storages that keep nothing (MappingStorage, DemoStorage,
  TemporaryStorage).
- **Failed commits**, unless an option says otherwise:

  - Where every storage had voted, nobody can tell what was written.  The commit then
    raises `CommitOutcomeUnknown`, which is no TransientError, so that no publisher
    retries it: a retry may write twice.  Its ``__cause__`` is the original exception.
  - A failure that may have left wrong objects in the connections' caches has the
    caches cleared; changed objects that were not committed are not touched.  Conflicts
    of objects that were there before, and what else is retried, leave none.
  - A ZEO client that has lost its server drops the object ids that it had reserved
    there: the server may give them to others.

- **What a process has seen it has seen.**  What it read through a database that is
  closed meanwhile may be in its variables, so every later stamp goes on telling of it,
  also in a forked child.  ``uninstall`` forgets it, and so does ``install`` with
  other ids.
- **Threads, finalizers, signals, greenlets and forks.**  ``statistics`` and commits may
  run in any thread, finalizer or signal handler at any time, also under gevent, and
  databases may be opened and closed there: no lock of ours is waited for.  ``install``
  and ``uninstall`` are for one thread at a time; commits that are under way in other
  threads meanwhile end as they began.  A forked child goes on with a sender of its own.

Importing this module is cheap, and imports neither ZODB nor ZEO; ``install`` does.
"""

from collections.abc import Mapping

__version__ = "6.0.0.dev0"
__all__ = ["__version__", "install", "statistics", "uninstall"]


def install(
    address: tuple[str, int] | None = None,
    ids: Mapping[str, str] | None = None,
    *,
    outcome_unknown: bool = True,
    clear_caches: bool = True,
    drop_oids: bool = True,
    name: str = "",
) -> None:
    """Stamp every transaction that this process commits from now on.

    address: (host, port) of the daemon that is told of commits.  None: transactions
        are stamped, and nobody is told.  Nothing is connected here: an address where
        no daemon runs is no error.
    ids: {database name: storage id} of the databases that belong to the cluster.
        Others are left alone, with one warning in the log for each.  None: every
        database that keeps its data on disk belongs to the cluster; its id is the
        name of its ZEO storage, or the database name where it has no ZEO server.
        While two open databases have one id, or one has ZEO's default name ``1`` and
        no ids are given, nothing is stamped; an error in the log says so.
    outcome_unknown: raise ``CommitOutcomeUnknown`` out of a commit that failed when
        part of it may be written already.
    clear_caches: forget what connections have cached after a failure that may have
        left wrong objects there.
    drop_oids: forget the object ids that were reserved at a ZEO server when the
        connection to it was lost.
    name: what this process is called.  For a Zope it is the name in the cluster's
        description: ``bin/cluster status`` names those that never stamped.

    Databases that are open already are found too.  A second call replaces what the
    first one set, and the counts of ``statistics`` begin anew.

    Raises: ValueError: where an id is no printable line, is too long, or stands
        twice, or the address has no host or no port from 1 to 65535.  What was
        installed before is then still in place.
    """
    from tidstorage.hook import hook
    from tidstorage.hook.committing import FailedCommitOptions

    options = FailedCommitOptions(outcome_unknown, clear_caches, drop_oids)
    hook.install(address, ids, options, name)


def uninstall() -> None:
    """Stop stamping.

    What waits for the daemon is sent where that takes less than a second; the rest is
    dropped.  Without ``install`` before it this does nothing.
    """
    from tidstorage.hook import hook

    hook.uninstall()


def statistics() -> dict[str, int]:
    """What was counted since ``install``; empty where nothing is installed.

    stamped, unstamped: commits that wrote storages of the cluster, with a stamp and
        without one, whatever became of them.
    errors: exceptions in the hook; the commits went on.
    outcome_unknown: commits that failed after every storage had voted.
    caches_cleared: how often connections' caches were cleared.
    sent, dropped: messages to the daemon that were sent, and given up.
    connected: 1 while the daemon answers, else 0.
    """
    from tidstorage.hook import hook

    return hook.statistics()
