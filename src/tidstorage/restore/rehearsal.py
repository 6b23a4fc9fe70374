"""What a restore would do, as far as that can be told without doing it."""

from collections.abc import Mapping
from pathlib import Path

from tidstorage import damages
from tidstorage.cluster import Cluster
from tidstorage.engines import filestorage
from tidstorage.errors import FileUnreadable
from tidstorage.restore import cutting
from tidstorage.restore.cutting import Cut
from tidstorage.restore.plan import Choice
from tidstorage.restore.target import Target


def find_cut(
    cluster: Cluster, chosen: Choice, targets: Mapping[str, Target]
) -> Cut | None:
    """The cut of what was chosen, without the set's copies being put together.

    None where it lies between known points, and the live files do not hold what
    the set holds.
    """
    if chosen.goal is None:
        return cutting.of_set(chosen.manifest, chosen.policy)
    files = {each.id: each.data_file for each in cluster.storages if each.id in targets}
    if files.keys() != targets.keys() or not _hold_the_set(cluster, chosen, files):
        return None
    return cutting.find(cluster, chosen, files)


def _hold_the_set(cluster: Cluster, chosen: Choice, files: Mapping[str, Path]) -> bool:
    """Whether the live files have every record that the set has above the floor."""
    assert chosen.goal is not None
    try:
        if damages.timeline_beside(cluster) != chosen.manifest.point.timeline:
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
