"""What a backup would do: ``bin/cluster backup --dry-run``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.sets.directory import BackupDirectory
from tidstorage.verbs.backup import prepare


@dataclass(frozen=True, slots=True)
class PlannedBackup:
    """What would be copied.

    directory: where the set would go.  previous: id of the newest set there; None
    without one.  sizes: {storage id: bytes of its Data.fs}.
    """

    directory: Path
    previous: str | None
    sizes: Mapping[str, int]


def plan(cluster: Cluster) -> PlannedBackup:
    """What would be copied now, and where to; nothing is changed.

    Raises: as `prepare.refuse_the_impossible` and `BackupDirectory.open`.
    """
    prepare.refuse_the_impossible(cluster)
    directory = BackupDirectory.open(cluster)
    newest = next(iter(directory.manifests()), None)
    sizes = {
        storage.id: storage.data_file.stat().st_size for storage in cluster.storages
    }
    return PlannedBackup(directory.path, newest.id if newest else None, sizes)
