"""``tidstorage-repozo``: backup and restore, for cron and for old habits.

The same as ``bin/cluster backup`` and ``restore``, but silent unless something is
wrong, so that cron mails nothing else.  With ``-c`` it is the command of TIDStorage 5
(`tidstorage.commands.scripts.legacy_repozo`).
"""

import argparse
import sys
from collections.abc import Sequence

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import backup, console, restore, restore_report
from tidstorage.commands.entry import run_reporting_errors
from tidstorage.commands.front import add_cluster_file, add_wait, open_cluster
from tidstorage.commands.scripts import legacy_repozo, scheduled
from tidstorage.operation import lock
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore import around


def main(arguments: Sequence[str] | None = None) -> int:
    """Back up or restore; returns the exit status."""
    return run_reporting_errors(lambda: _run(arguments))


def _run(given: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if given is None else given
    if legacy_repozo.is_meant(arguments):
        return legacy_repozo.run(arguments)
    parser = _make_parser()
    options = parser.parse_args(arguments)
    if options.scheduled and options.recover:
        parser.error("--scheduled is for a backup")
    cluster = open_cluster(options.cluster_file)
    if options.scheduled:
        with scheduled.hold_turn(cluster, "backup"):
            backup.describe(back_up(cluster))
        return 0
    with lock.waiting(options.wait):
        if options.recover:
            _recover(options, cluster)
        else:
            made = back_up(cluster)
            if options.verbose:
                backup.describe(made)
    return 0


def _recover(options: argparse.Namespace, cluster: Cluster) -> None:
    request = restore.request(options)
    tell = console.print_progress if options.verbose else console.print_nothing
    outcome = around.restore(cluster, request, options.into, options.stop, tell)
    restore.warn_of_lacks(outcome)
    if options.verbose:
        restore_report.describe(outcome, options.into)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidstorage-repozo",
        description="Back up or restore all storages of a cluster as one set.",
    )
    add_cluster_file(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "-B", "--backup", action="store_true", help="back up (the default)"
    )
    action.add_argument("-R", "--recover", action="store_true", help="restore")
    parser.add_argument(
        "--scheduled",
        action="store_true",
        help="back up as cron does: print times, and end at once while the former one"
        " runs",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is done")
    restore.add_request(parser)
    add_wait(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
