"""``bin/cluster backup``: make one coherent set of all storages and blobs."""

import argparse

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console, progress_display
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system.clock import local
from tidstorage.verbs.backup import prepare
from tidstorage.verbs.backup.backup import back_up

HELP = "Back up all storages and blobs as one coherent set."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--json", action="store_true", help="print the manifest")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be copied, and where"
    )
    progress_display.add_option(parser)


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Make the set and say what it is."""
    if not options.json:
        warn_of_shared_disk(cluster)
    if options.dry_run:
        _say_what_would_be_done(cluster, options.json)
        return 0
    with progress_display.shown(options) as show:
        made = back_up(cluster, show)
    if options.json:
        console.print_json(made.to_json())
    else:
        describe(made)
    return 0


def warn_of_shared_disk(cluster: Cluster) -> None:
    """Tell an operator, not cron each night, that one broken disk would take both."""
    directory = BackupDirectory(cluster.backup.directory)
    shared = [each.id for each in directory.shares_disk_with(cluster.storages)]
    if shared:
        console.print_warning(
            f"{cluster.backup.directory} is on the file system of the data of"
            f" {', '.join(shared)}: one broken disk takes both"
        )


def describe(made: Manifest) -> None:
    """What a new set is, for an operator."""
    console.print_line(
        f"set {made.id}: {made.kind}, point {made.point.id}"
        f" ({local(made.point.time)}, by {made.point.source})"
    )
    console.print_table(
        ("storage", "kind", "bytes", "blobs"),
        [
            (each.id, each.kind, f"{each.size:,}", f"{each.blob_count:,}")
            for each in made.storages
        ],
    )
    for half in made.point.damage:
        console.print_warning(f"half commit {half.in_words()}")


def _say_what_would_be_done(cluster: Cluster, as_json: bool) -> None:
    prepare.refuse_the_impossible(cluster)
    found = BackupDirectory.open(cluster).sets()
    data = {
        "directory": str(cluster.backup.directory),
        "previous": found[0].manifest.id if found else None,
        "storages": {
            each.id: each.data_file.stat().st_size for each in cluster.storages
        },
    }
    if as_json:
        console.print_json(data)
        return
    console.print_line(f"would be backed up to {data['directory']}:")
    for each in cluster.storages:
        console.print_line(f"  {each.id}: {each.data_file.stat().st_size:,} bytes")
