"""``bin/cluster stop``: Zopes, the daemon, ZEO servers; no process is left."""

import argparse

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.commands.front import parse_seconds
from tidstorage.commands.start import add_names, add_output, print_outcome
from tidstorage.processes import control
from tidstorage.processes.stopping import STOP_SECONDS

HELP = "Stop the cluster, or parts of it, and wait until the processes are gone."
_NOTHING = "Nothing to do: nothing runs."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_names(parser)
    parser.add_argument(
        "--timeout",
        type=parse_seconds,
        default=STOP_SECONDS,
        metavar="SECONDS",
        help="kill processes that have not ended after this time (default: %(default)g,"
        " at most 30)",
    )
    add_output(parser)


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Stop, and say what was stopped."""
    names = options.names or None
    if options.dry_run:
        print_outcome(
            options.json, "would stop", control.list_running(cluster, names), _NOTHING
        )
        return 0
    stopped = control.stop(
        cluster, names, tell=console.print_progress, seconds=options.timeout
    )
    print_outcome(options.json, "stopped", stopped, _NOTHING)
    return 0
