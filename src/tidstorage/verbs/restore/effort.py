"""What a restore would take and find, as far as that can be told without doing it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines import filestorage
from tidstorage.errors import FileUnreadable
from tidstorage.points.timelines import timeline_beside
from tidstorage.system import disks
from tidstorage.system.disks import Room
from tidstorage.verbs.restore import assemble, cutting, rates
from tidstorage.verbs.restore.cutting import Cut
from tidstorage.verbs.restore.plan import Choice
from tidstorage.verbs.restore.target import Target


@dataclass(frozen=True, slots=True)
class Effort:
    """What a restore takes.

    rooms: bytes it writes, and bytes free, for each file system.  copied: bytes
    put together from the set; compared: bytes of present files.  seconds: an
    estimate from what was measured before; None where nothing was.
    """

    rooms: Sequence[Room]
    copied: int
    compared: int
    seconds: float | None


def estimate(
    cluster: Cluster,
    chosen: Choice,
    targets: Mapping[str, Target],
    reused: Collection[str],
) -> Effort:
    """What it takes to restore a set.

    reused: ids of storages whose files are only cut.
    """
    manifest = chosen.manifest
    compared = sum(manifest.storage(storage).size for storage in reused)
    copied = sum(
        manifest.storage(storage).size for storage in targets if storage not in reused
    )
    for storage in targets:
        blobs = manifest.storage(storage).blob_bytes
        compared, copied = (
            (compared + blobs, copied)
            if storage in reused
            else (compared, copied + blobs)
        )
    return Effort(
        disks.find_room(assemble.bytes_needed(manifest, targets, reused)),
        copied,
        compared,
        rates.estimate(cluster, chosen.directory.manifests(), copied, compared),
    )


def preview_cut(
    cluster: Cluster, chosen: Choice, targets: Mapping[str, Target]
) -> Cut | None:
    """The cut of what was chosen, without the set's copies being put together.

    None where it lies between known points, and the live files do not hold what
    the set holds.
    """
    if chosen.goal is None:
        return cutting.cut_of_set(chosen.manifest, chosen.policy)
    files = {
        storage.id: storage.data_file
        for storage in cluster.storages
        if storage.id in targets
    }
    if files.keys() != targets.keys() or not _hold_the_set(cluster, chosen, files):
        return None
    return cutting.find_cut(cluster, chosen, files)


def _hold_the_set(cluster: Cluster, chosen: Choice, files: Mapping[str, Path]) -> bool:
    """Whether the live files have every record that the set has above the floor."""
    assert chosen.goal is not None
    try:
        if timeline_beside(cluster) != chosen.manifest.point.timeline:
            return False
        return all(
            not filestorage.packed_above(path, chosen.goal.floor_of(storage))
            and _has(path, chosen.manifest.point.vector[storage])
            for storage, path in files.items()
        )
    except FileUnreadable:
        # Lost, or on another machine.
        return False


def _has(path: Path, last: int) -> bool:
    """Whether a file holds the record of that TID."""
    return not last or any(True for _ in filestorage.read_records(path, last - 1, last))
