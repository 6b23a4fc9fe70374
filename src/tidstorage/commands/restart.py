"""``bin/cluster restart``: stop and start, all or what is named."""

import argparse

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.commands.start import add_names, add_output, add_timeout, print_outcome
from tidstorage.processes import control

HELP = "Stop and start the cluster, or parts of it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_names(parser)
    add_timeout(parser)
    add_output(parser)


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Restart, and say what was started."""
    names = options.names or None
    if options.dry_run:
        control.make_plan(cluster, names)
        print_outcome(
            options.json,
            "would stop",
            control.list_running(cluster, names),
            "Nothing runs.",
        )
        return 0
    started = control.restart(
        cluster, names, tell=console.print_progress, seconds=options.timeout
    )
    print_outcome(options.json, "started", started, "Nothing was started.")
    return 0
