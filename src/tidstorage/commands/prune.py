"""``bin/cluster prune``: remove the sets that nobody wants to keep any more."""

import argparse
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.commands.front import add_dry_run, add_json
from tidstorage.system.clock import local
from tidstorage.verbs.prune.prune import Report, prune

HELP = "Remove the backup sets that [retention] does not keep."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)
    add_dry_run(parser, "say what would be removed and why the rest is kept")


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Prune, and print which sets went and which stay."""
    report = prune(cluster, dry_run=options.dry_run)
    if options.json:
        console.print_json(_as_json(report))
    else:
        _describe(report, options.dry_run)
    return 0


def _describe(report: Report, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    for set_id in report.ended:
        console.print_line(
            f"{would}finished: the removal of set {set_id}, which an earlier run began"
        )
    if report.removed:
        console.print_table(
            (f"{would}removed", "kind", "point"),
            [
                (manifest.id, manifest.kind, local(manifest.point.time))
                for manifest in (removed.manifest for removed in report.removed)
            ],
        )
    else:
        console.print_line(f"No set {would or 'is '}removed.")
    console.print_table(
        ("kept", "why"),
        [(set_id, ", ".join(why)) for set_id, why in reversed([*report.kept.items()])],
    )
    console.print_line(f"{report.freed:,} bytes {would}freed")


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "removed": [removed.manifest.id for removed in report.removed],
        "ended": list(report.ended),
        "kept": {set_id: list(why) for set_id, why in report.kept.items()},
        "freed": report.freed,
    }
