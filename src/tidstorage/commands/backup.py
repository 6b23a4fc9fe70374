"""``bin/cluster backup``: make one coherent set of all storages and blobs."""

import argparse

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console, progress_display
from tidstorage.commands.front import add_dry_run
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system.clock import local
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.backup.plan import plan

HELP = "Back up all storages and blobs as one coherent set."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "--json", action="store_true", help="print the manifest of the set, as JSON"
    )
    add_dry_run(parser, "say what would be copied and where to")
    parser.add_argument(
        "--adopt",
        action="store_true",
        help="go on with the backups in the directory that another site made, which"
        " this one takes the place of",
    )
    progress_display.add_option(parser)


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Make the set, and print what it is."""
    if not options.json:
        warn_of_shared_disk(cluster)
    if options.dry_run:
        _print_plan(cluster, options.json)
        return 0
    with progress_display.show_progress(options) as show:
        manifest = back_up(cluster, show, adopt=options.adopt)
    if options.json:
        console.print_json(manifest.to_json())
    else:
        describe(manifest)
    return 0


def warn_of_shared_disk(cluster: Cluster) -> None:
    """Warn where one broken disk would destroy backups and data.

    An operator is told, cron is not each night.
    """
    directory = BackupDirectory(cluster.backup.directory)
    shared = [storage.id for storage in directory.shares_disk_with(cluster.storages)]
    if shared:
        console.print_warning(
            f"{cluster.backup.directory} is on the same file system as the data of"
            f" {', '.join(shared)}: one broken disk destroys both"
        )


def describe(manifest: Manifest) -> None:
    """Print what a new set is, for an operator."""
    console.print_line(
        f"set {manifest.id}: {manifest.kind}, point {manifest.point.id}"
        f" ({local(manifest.point.time)}, by {manifest.point.source})"
    )
    console.print_table(
        ("storage", "kind", "bytes", "blobs"),
        [
            (storage.id, storage.kind, f"{storage.size:,}", f"{storage.blob_count:,}")
            for storage in manifest.storages
        ],
    )
    for half in manifest.point.damage:
        console.print_warning(f"half commit {half.in_words()}")


def _print_plan(cluster: Cluster, as_json: bool) -> None:
    planned = plan(cluster)
    if as_json:
        console.print_json(
            {
                "directory": str(planned.directory),
                "previous": planned.previous,
                "storages": planned.sizes,
            }
        )
        return
    console.print_line(f"would be backed up to {planned.directory}:")
    for storage, size in planned.sizes.items():
        console.print_line(f"  {storage}: {size:,} bytes")
