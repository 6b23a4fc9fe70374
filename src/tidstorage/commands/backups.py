"""``bin/cluster backups``: the sets there are, newest first."""

import argparse
import datetime
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.sets import repozo
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.verdicts import Verdict
from tidstorage.system import clock
from tidstorage.system.clock import local, span

HELP = "List the backup sets, newest first."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Print the list; broken manifests are named on standard error."""
    directory = BackupDirectory.open(cluster)
    found = directory.sets()
    for error in directory.broken_manifests():
        console.print_warning(str(error))
    if options.json:
        console.print_json([_as_json(each) for each in found])
        return 0
    if not found:
        console.print_line(f"There is no backup set in {directory.path}.")
        return 0
    now = clock.now()
    console.print_table(
        (
            "set",
            "kind",
            "point",
            "age",
            "bytes",
            "needs",
            "whole",
            "half commits",
            "verified",
        ),
        [
            (
                each.manifest.id,
                each.manifest.kind,
                local(each.manifest.point.time),
                span(now - each.manifest.point.time),
                f"{_size(each):,}",
                _needs(each),
                "yes" if each.is_whole else f"NO: {each.faults[0]}",
                str(len(each.manifest.point.damage)),
                _verified(each, now),
            )
            for each in found
        ],
    )
    return 0


def _size(found: BackupSet) -> int:
    """Bytes of the storages and blobs that the set restores."""
    return sum(each.size + each.blob_bytes for each in found.manifest.storages)


def _increments(found: BackupSet) -> int:
    """How many increments are to be laid upon the full copies."""
    return max((len(each.files) - 1 for each in found.manifest.storages), default=0)


def _oldest_copy(found: BackupSet) -> datetime.datetime | None:
    """When the oldest of the full copies was made that the set needs."""
    names = [Path(each.files[0].path).name for each in found.manifest.storages]
    moments = (repozo.newest_full([each]) for each in names)
    return min((each for each in moments if each is not None), default=None)


def _needs(found: BackupSet) -> str:
    """What a restore lays together."""
    oldest, number = _oldest_copy(found), _increments(found)
    if oldest is None or found.manifest.kind == "full":
        return "itself"
    full = f"full of {local(oldest)}"
    if not number:
        # Some storages were copied in full with this set, the others had nothing new.
        return full
    return f"{full}, {number} increment{'s' if number > 1 else ''}"


def _verified(found: BackupSet, now: datetime.datetime) -> str:
    """How deeply nothing wrong was found, and how long ago."""
    known = found.verified
    if known is None or known.depth is None:
        return "never"
    said = f"{known.depth}, {span(now - known.good[known.depth])} ago"
    return f"{said}; {known.lost} lost" if known.lost else said


def _as_json(found: BackupSet) -> dict[str, Any]:
    manifest = found.manifest
    return {
        "id": manifest.id,
        "kind": manifest.kind,
        "point": manifest.point.to_json(),
        "bytes": _size(found),
        "whole": found.is_whole,
        "faults": list(found.faults),
        "needs": {
            "files": [each.path for each in manifest.files()],
            "stored_bytes": sum(each.size for each in manifest.files()),
            "increments": _increments(found),
        },
        "verified": found.verified and _verification(found.verified),
    }


def _verification(known: Verdict) -> dict[str, Any]:
    return {
        "depth": known.depth,
        "good": {depth: at.isoformat() for depth, at in known.good.items()},
        "lost": known.lost,
    }
