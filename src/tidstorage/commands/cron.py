"""``bin/cluster cron``: the cluster's entries in the crontab of its user."""

import argparse

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.commands.front import add_dry_run, add_json
from tidstorage.deployment import crontab
from tidstorage.deployment.crontab import CrontabChange

HELP = "Put the scheduled commands into the user's crontab, or take them out."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--install", action="store_true", help="put the entries in, or renew them"
    )
    what.add_argument("--remove", action="store_true", help="take the entries out")
    what.add_argument(
        "--show",
        action="store_true",
        help="print the entries, and whether the crontab has them",
    )
    add_json(parser)
    add_dry_run(parser, "print the crontab that would result")


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Change the crontab, or print what belongs in it."""
    if options.remove:
        change = crontab.plan_removal(cluster)
    else:
        change = crontab.plan_installation(cluster)
    if options.show:
        _show(crontab.read_entries(cluster), not change.is_needed, options.json)
        return 0
    if options.dry_run:
        _print_plan(change, options.json)
        return 0
    change.perform()
    if options.json:
        console.print_json({"changed": change.is_needed})
    elif not change.is_needed:
        console.print_line("Nothing to do: the crontab is as it should be.")
    else:
        place = "in the crontab" if options.install else "out of the crontab"
        console.print_line(f"The entries of {cluster.file} are {place}.")
    if options.install and not crontab.has_entry(crontab.read_entries(cluster)):
        console.print_warning(
            'nothing is scheduled: every schedule in cluster.toml is "never"'
        )
    return 0


def _print_plan(change: CrontabChange, as_json: bool) -> None:
    if as_json:
        console.print_json({"changes": change.is_needed, "crontab": change.after})
    else:
        console.print_line(change.after.rstrip("\n"))


def _show(entries: str, is_installed: bool, as_json: bool) -> None:
    if as_json:
        console.print_json({"entries": entries, "installed": is_installed})
        return
    console.print_line(entries.rstrip("\n"))
    console.print_line(
        "# The crontab has just these entries."
        if is_installed
        else "# The crontab does not have these entries (bin/cluster cron --install)."
    )
