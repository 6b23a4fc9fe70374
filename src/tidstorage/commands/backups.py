"""``bin/cluster backups``: the sets there are, newest first."""

import argparse
from typing import Any

from tidstorage import point
from tidstorage.backup import directory as backup_directory
from tidstorage.backup import sets
from tidstorage.backup.sets import BackupSet
from tidstorage.cluster import Cluster
from tidstorage.commands import console
from tidstorage.local_time import local, span

HELP = "List the backup sets, newest first."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Print the list; broken manifests are named on standard error."""
    directory = backup_directory.known(cluster)
    found = sets.every(directory)
    for error in sets.manifests(directory)[1]:
        console.print_warning(str(error))
    if options.json:
        console.print_json([_as_json(each) for each in found])
        return 0
    if not found:
        console.print_line(f"There is no backup set in {directory}.")
        return 0
    now = point.now()
    console.print_table(
        ("set", "kind", "point", "age", "bytes", "whole", "half commits"),
        [
            (
                each.manifest.id,
                each.manifest.kind,
                local(each.manifest.point.time),
                span(now - each.manifest.point.time),
                f"{_size(each):,}",
                "yes" if each.is_whole else f"NO: {each.faults[0]}",
                str(len(each.manifest.point.damage)),
            )
            for each in found
        ],
    )
    return 0


def _size(found: BackupSet) -> int:
    """Bytes of the storages and blobs that the set restores."""
    return sum(each.size + each.blob_bytes for each in found.manifest.storages)


def _as_json(found: BackupSet) -> dict[str, Any]:
    manifest = found.manifest
    return {
        "id": manifest.id,
        "kind": manifest.kind,
        "point": manifest.point.to_json(),
        "bytes": _size(found),
        "whole": found.is_whole,
        "faults": list(found.faults),
    }
