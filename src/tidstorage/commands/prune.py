"""``bin/cluster prune``: remove the sets that nobody wants to keep any more."""

import argparse
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.system.clock import local
from tidstorage.verbs.prune.prune import PrunePlan, plan, prune

HELP = "Remove the backup sets that [retention] does not keep."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be removed, and why not"
    )


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Prune and say what went and what stays."""
    planned = plan(cluster) if options.dry_run else prune(cluster)
    if options.json:
        console.print_json(_as_json(planned))
    else:
        _describe(planned, options.dry_run)
    return 0


def _describe(planned: PrunePlan, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    for set_id in planned.ended:
        console.print_line(f"{would}ended: the removal of set {set_id}, begun before")
    if planned.removed:
        console.print_table(
            (f"{would}removed", "kind", "point"),
            [
                (each.manifest.id, each.manifest.kind, local(each.manifest.point.time))
                for each in planned.removed
            ],
        )
    else:
        console.print_line("No set goes.")
    console.print_table(
        ("kept", "why"),
        [(each, ", ".join(why)) for each, why in reversed([*planned.kept.items()])],
    )
    console.print_line(f"{planned.frees.size:,} bytes {would}freed")


def _as_json(planned: PrunePlan) -> dict[str, Any]:
    return {
        "removed": [each.manifest.id for each in planned.removed],
        "ended": planned.ended,
        "kept": {each: list(why) for each, why in planned.kept.items()},
        "freed": planned.frees.size,
    }
