"""``bin/cluster prune``: remove the sets that nobody wants to keep any more."""

import argparse
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.commands.front import add_dry_run, add_json
from tidstorage.system.clock import local
from tidstorage.verbs.prune.prune import PrunePlan, plan, prune

HELP = "Remove the backup sets that [retention] does not keep."

_LOOK_AGAIN = (
    "It is kept, and counts for nothing. Look again: bin/cluster verify, at least as"
    " deeply as before."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)
    add_dry_run(parser, "say what would be removed and why the rest is kept")


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Prune, and print which sets went and which stay."""
    planned = plan(cluster) if options.dry_run else prune(cluster)
    if options.json:
        console.print_json(_as_json(planned))
    else:
        _describe(planned, options.dry_run)
    for set_id, why in planned.unknown.items():
        console.print_error(
            f"nobody knows whether set {set_id} is whole: {why}", _LOOK_AGAIN
        )
    return planned.exit_status


def _describe(planned: PrunePlan, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    for set_id in planned.ended:
        console.print_line(
            f"{would}finished: the removal of set {set_id}, which an earlier run began"
        )
    if planned.removed:
        console.print_table(
            (f"{would}removed", "kind", "point"),
            [
                (manifest.id, manifest.kind, local(manifest.point.time))
                for manifest in (removed.manifest for removed in planned.removed)
            ],
        )
    else:
        console.print_line(f"No set {would or 'is '}removed.")
    console.print_table(
        ("kept", "why"),
        [(set_id, ", ".join(why)) for set_id, why in reversed([*planned.kept.items()])],
    )
    console.print_line(f"{planned.frees.size:,} bytes {would}freed")


def _as_json(planned: PrunePlan) -> dict[str, Any]:
    return {
        "removed": [removed.manifest.id for removed in planned.removed],
        "ended": planned.ended,
        "kept": {set_id: list(why) for set_id, why in planned.kept.items()},
        "freed": planned.frees.size,
        "unknown": dict(planned.unknown),
    }
