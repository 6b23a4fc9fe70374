"""``bin/cluster rebase``: accept the present state as a new floor."""

import argparse
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console, damage
from tidstorage.errors import NotConfirmed
from tidstorage.system.clock import local
from tidstorage.verbs.damage import rebase
from tidstorage.verbs.damage.rebase import Rebase

HELP = "Accept the present state, with all that is torn in it, as a new floor."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    sure = parser.add_mutually_exclusive_group()
    sure.add_argument("--yes", action="store_true", help="do it")
    sure.add_argument(
        "--dry-run", action="store_true", help="say what would be accepted"
    )


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Do it where --yes is given; show what it would accept otherwise."""
    done = rebase.rebase(cluster) if options.yes else rebase.rehearse(cluster)
    if options.json:
        console.print_json(_as_json(done, options.yes))
    else:
        _describe(cluster, done, options.yes)
    if not (options.yes or options.dry_run):
        raise NotConfirmed("a rebase cannot be taken back")
    return 0


def _describe(cluster: Cluster, done: Rebase, is_done: bool) -> None:
    verb = "is" if is_done else "would be"
    console.print_line(
        f"The state of {local(done.floor.time)} {verb} the new floor, point"
        f" {done.floor.id}; nothing below it is examined any more."
    )
    if done.unexamined is not None:
        console.print_warning(
            "what is torn is known from the daemon's journal alone, not from the"
            f" files: {done.unexamined}"
        )
    if not done.accepted:
        console.print_line("Nothing torn is accepted by it.")
        return
    console.print_line(f"{len(done.accepted)} half commit(s) {verb} accepted by it:")
    for each in done.accepted:
        console.print_line()
        for line in damage.explain(cluster, each):
            console.print_line(line)


def _as_json(done: Rebase, is_done: bool) -> dict[str, Any]:
    return {
        "done": is_done,
        "floor": done.floor.to_json(),
        "accepted": [damage.as_json(each) for each in done.accepted],
        "unexamined": done.unexamined,
    }
