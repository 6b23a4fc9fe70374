"""``bin/cluster backups``: the sets there are, newest first."""

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.commands.front import add_json
from tidstorage.errors import SetUnreadable
from tidstorage.sets import repozo
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.manifest import Manifest
from tidstorage.sets.verdicts import Verdict
from tidstorage.system import clock
from tidstorage.system.clock import local, span

HELP = "List the backup sets, newest first."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Print the list; what is no sound set is named on standard error.

    The status is SetUnreadable's where something could not be looked at.
    """
    directory = BackupDirectory.open(cluster)
    sets = directory.sets()
    for error in directory.broken_manifests():
        console.print_warning(str(error))
    for what in directory.strangers():
        console.print_warning(what)
    unread = [str(error) for error in directory.unread_manifests().values()]
    unread += [
        f"set {backup_set.manifest.id}: {what}"
        for backup_set in sets
        for what in backup_set.unread[:1]
    ]
    if options.json:
        console.print_json([_as_json(backup_set) for backup_set in sets])
    elif sets:
        _describe(sets)
    elif not unread:
        console.print_line(f"There is no backup set in {directory.path}.")
    for what in unread:
        console.print_error(what, SetUnreadable.hint)
    return SetUnreadable.exit_status if unread else 0


def _describe(sets: Sequence[BackupSet]) -> None:
    now = clock.now()
    columns = ["set", "kind", "point", "age", "bytes"]
    columns += ["needs", "whole", "half commits", "lost blobs", "verified"]
    console.print_table(
        columns,
        [
            (
                backup_set.manifest.id,
                backup_set.manifest.kind,
                local(backup_set.manifest.point.time),
                span(now - backup_set.manifest.point.time),
                f"{_count_bytes(backup_set):,}",
                _describe_needs(backup_set),
                _describe_whole(backup_set),
                str(len(backup_set.manifest.point.damage)),
                _describe_lost_blobs(backup_set.manifest),
                _describe_verified(backup_set, now),
            )
            for backup_set in sets
        ],
    )


def _describe_whole(backup_set: BackupSet) -> str:
    if backup_set.is_whole:
        return "yes"
    verdict = "unknown" if backup_set.is_unknown else "NO"
    return f"{verdict}: {backup_set.reason}"


def _count_bytes(backup_set: BackupSet) -> int:
    """Bytes of the storages and blobs that the set restores."""
    return sum(
        storage.size + storage.blob_bytes for storage in backup_set.manifest.storages
    )


def _count_increments(backup_set: BackupSet) -> int:
    """How many increments a restore adds to the full copies, at most."""
    return max(
        (len(storage.files) - 1 for storage in backup_set.manifest.storages), default=0
    )


def _find_oldest_copy(backup_set: BackupSet) -> datetime.datetime | None:
    """When the oldest of the full copies was made that the set needs."""
    names = [
        Path(storage.files[0].path).name for storage in backup_set.manifest.storages
    ]
    moments = (repozo.find_newest_full([name]) for name in names)
    return min((moment for moment in moments if moment is not None), default=None)


def _describe_needs(backup_set: BackupSet) -> str:
    """Which copies a restore puts together."""
    oldest, number = _find_oldest_copy(backup_set), _count_increments(backup_set)
    if oldest is None or backup_set.manifest.kind == "full":
        return "itself"
    full = f"full of {local(oldest)}"
    if not number:
        # Some storages were copied in full with this set, the others had nothing new.
        return full
    return f"{full}, {number} increment{'s' if number > 1 else ''}"


def _describe_lost_blobs(made: Manifest) -> str:
    """How many blobs the source had lost by then, and of how many there is no copy."""
    missing = sum(len(storage.missing_blobs or ()) for storage in made.storages)
    lost = missing + sum(len(storage.lost_blobs) for storage in made.storages)
    return f"{lost:,}, {missing:,} WITHOUT A COPY" if missing else f"{lost:,}"


def _describe_verified(backup_set: BackupSet, now: datetime.datetime) -> str:
    """How deeply it was verified without a fault, how long ago, and what is lost."""
    verified = backup_set.verified
    if verified is None or verified.depth is None:
        return "never"
    text = f"{verified.depth}, {span(now - verified.good[verified.depth])} ago"
    return f"{text}; {verified.lost} lost" if verified.lost else text


def _as_json(backup_set: BackupSet) -> dict[str, Any]:
    manifest = backup_set.manifest
    verified = backup_set.verified
    return {
        "id": manifest.id,
        "kind": manifest.kind,
        "point": manifest.point.to_json(),
        "bytes": _count_bytes(backup_set),
        "whole": backup_set.is_whole,
        "faults": list(backup_set.faults),
        "unknown": [*backup_set.unread, *backup_set.doubts],
        "lost_blobs": {
            storage.id: [*storage.lost_blobs]
            for storage in manifest.storages
            if storage.lost_blobs
        },
        "missing_blobs": {
            storage.id: [*storage.missing_blobs]
            for storage in manifest.storages
            if storage.missing_blobs
        },
        "needs": {
            "files": [file.path for file in manifest.files()],
            "stored_bytes": sum(file.size for file in manifest.files()),
            "increments": _count_increments(backup_set),
        },
        "verified": verified and _verified_as_json(verified),
    }


def _verified_as_json(verified: Verdict) -> dict[str, Any]:
    return {
        "depth": verified.depth,
        "good": {depth: at.isoformat() for depth, at in verified.good.items()},
        "lost": verified.lost,
    }
