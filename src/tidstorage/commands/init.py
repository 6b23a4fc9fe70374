"""``bin/cluster init``: mount points, first user and first point, once."""

import argparse
import sys
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console, restore_report
from tidstorage.commands.front import add_dry_run, add_json
from tidstorage.deployment import initialise
from tidstorage.errors import NotDecided
from tidstorage.verbs.restore.around import restore
from tidstorage.verbs.restore.plan import Request

HELP = "Create mount points and the first user; take the first coherency point."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)
    add_dry_run(parser, "say what is missing")
    parser.add_argument(
        "--begin-anew",
        action="store_true",
        help="begin an empty cluster, though the backup directory holds the backups of"
        " a former one",
    )


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Initialise, and say what was done."""
    if options.dry_run:
        _print_missing(initialise.list_missing(cluster), options.json)
        return 0
    if options.begin_anew:
        initialise.begin_anew(cluster)
    try:
        done = initialise.initialise(cluster, console.print_progress)
    except NotDecided as error:
        if options.json or not sys.stdin.isatty() or not _wants_restore(error):
            raise
        outcome = restore(cluster, Request(), None, False, console.print_progress)
        restore_report.describe(outcome, None)
        return 0
    if options.json:
        console.print_json(_as_json(done))
        return 0
    if done.mounted:
        console.print_line(f"mount points created: {', '.join(done.mounted)}")
    if done.password_file is not None:
        console.print_line(
            f"user {initialise.USER} created; password in {done.password_file}"
        )
    if done.point is not None:
        console.print_line(f"first coherency point: {done.point.id}")
    if not (done.mounted or done.password_file or done.point):
        console.print_line("Nothing to do: the cluster is initialised.")
    return 0


def _wants_restore(error: NotDecided) -> bool:
    """Ask on a terminal; anything but "restore" begins and changes nothing."""
    console.print_line(str(error))
    console.write('"restore" brings the newest set back; anything else ends: ')
    return sys.stdin.readline().strip() == "restore"


def _print_missing(missing: list[str], as_json: bool) -> None:
    if as_json:
        console.print_json({"missing": missing})
    elif missing:
        console.print_line(f"would {'; '.join(missing)}")
    else:
        console.print_line("Nothing to do: the cluster is initialised.")


def _as_json(done: initialise.Initialised) -> dict[str, Any]:
    return {
        "mounted": list(done.mounted),
        "password_file": (
            None if done.password_file is None else str(done.password_file)
        ),
        "point": None if done.point is None else done.point.to_json(),
    }
