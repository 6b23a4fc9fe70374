"""Consistent backup and restore for clusters of several ZODB storages.

``install()`` makes this process stamp its transactions, so that any set of
copies of the cluster's files can be cut coherently; ``uninstall()`` takes that
back.  Nothing else is needed in a Pyramid or other application without Zope;
Zope gets it from the product ``Products.TIDStorage``.
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

    address: (host, port) of the daemon that is told of commits, without ever
        waiting for it; None: transactions are stamped and nobody is told.
    ids: {database name: storage id} of the databases that belong to the
        cluster; others are left alone.  Without it each database that keeps its
        data on disk belongs to it, under its ZEO storage name, or else its
        database name.
    outcome_unknown: let ``CommitOutcomeUnknown`` out of a commit that failed
        when part of it may be written already, so that it is not retried.
    clear_caches: forget what connections cached after a failure that may have
        left wrong objects among it.
    drop_oids: forget the object ids reserved at a ZEO server when the
        connection to it was lost.
    name: what the daemon is told that this process is called: for a Zope its name
        in the cluster's description, so that a Zope never seen stamping is named.

    Databases that are open already are found too.  A second call replaces what
    the first one set.  ValueError for ids or an address that cannot be.
    """
    from tidstorage.hook import hook

    hook.install(
        address,
        ids,
        hook.Protection(outcome_unknown, clear_caches, drop_oids),
        name,
    )


def uninstall() -> None:
    """Stop stamping; give the daemon a moment to get what it was to be told."""
    from tidstorage.hook import hook

    hook.uninstall()


def statistics() -> dict[str, int]:
    """What was counted since ``install``; empty where it is not installed.

    stamped, unstamped: commits that wrote storages of the cluster, with and
    without a stamp.  errors: exceptions of ours that were swallowed.
    outcome_unknown, caches_cleared: what the protection had to do.  sent,
    dropped: messages to the daemon, and those given up; connected: 1 or 0.
    """
    from tidstorage.hook import hook

    return hook.statistics()
