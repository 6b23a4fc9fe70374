"""``bin/cluster rebase``: accept the present state as a new floor."""

import argparse
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console, half_commits
from tidstorage.commands.front import add_dry_run, add_json
from tidstorage.errors import NotConfirmed
from tidstorage.system.clock import local
from tidstorage.verbs.damage import rebase
from tidstorage.verbs.damage.rebase import RebasePlan

HELP = "Accept the present state as a new floor, with all half commits in it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)
    sure = parser.add_mutually_exclusive_group()
    sure.add_argument(
        "--yes", action="store_true", help="do it, though it cannot be taken back"
    )
    add_dry_run(sure, "say what would be accepted")


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Do it where --yes is given; show what it would accept otherwise."""
    done = rebase.rebase(cluster) if options.yes else rebase.plan_rebase(cluster)
    if options.json:
        console.print_json(_as_json(done, options.yes))
    else:
        _describe(cluster, done, options.yes)
    if not (options.yes or options.dry_run):
        raise NotConfirmed("a rebase cannot be taken back")
    return 0


def _describe(cluster: Cluster, done: RebasePlan, is_done: bool) -> None:
    console.print_line(
        f"The state of {local(done.floor.time)} {'is' if is_done else 'would be'} the"
        f" new floor, point {done.floor.id}; what is older is not examined any more."
    )
    if done.unexamined is not None:
        console.print_warning(
            "half commits are known only from the daemon's journal, not from the"
            f" files: {done.unexamined}"
        )
    for struck in done.struck:
        console.print_line(
            f"{struck.commit_id.hex()} is no half commit: {struck.reason}"
        )
    if not done.accepted:
        console.print_line("There is no half commit to accept.")
        return
    console.print_line(
        f"{len(done.accepted)} half commit(s) {'are' if is_done else 'would be'}"
        " accepted with it:"
    )
    for finding in done.accepted:
        console.print_line()
        half_commits.describe(cluster, finding)


def _as_json(done: RebasePlan, is_done: bool) -> dict[str, Any]:
    return {
        "done": is_done,
        "floor": done.floor.to_json(),
        "accepted": [half_commits.as_json(finding) for finding in done.accepted],
        "unexamined": done.unexamined,
        "struck": [
            {"commit": struck.commit_id.hex(), "reason": struck.reason}
            for struck in done.struck
        ],
    }
