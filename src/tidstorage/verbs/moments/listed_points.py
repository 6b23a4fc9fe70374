"""The coherency points that an operator is shown, and the reachable ranges."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.points import accepted as acceptance
from tidstorage.points import published
from tidstorage.points.beside import newest_point
from tidstorage.sets.directory import BackupDirectory
from tidstorage.verbs.moments.reachable_ranges import (
    TimeRange,
    find_open_damage,
    find_ranges,
)


@dataclass(frozen=True, slots=True)
class ListedPoint:
    """A point, and what an operator asks of it.

    sets: ids of the whole sets with just this point.  damage: number of half commits
    inside that nobody has accepted by now.
    """

    point: Point
    sets: tuple[str, ...]
    damage: int


@dataclass(frozen=True, slots=True)
class PointsAndRanges:
    """The newest points, and what can be restored.

    points, ranges: newest first; ranges: all of them, and the gaps between.  number:
    of all points in the journal and of sets.  unread: what of the sets could not be
    looked at, in words: more may be restorable than is told.
    """

    points: Sequence[ListedPoint]
    ranges: Sequence[TimeRange]
    number: int
    unread: Sequence[str]


def list_points_and_ranges(cluster: Cluster, limit: int | None = 20) -> PointsAndRanges:
    """The newest ``limit`` points (None: all), and every range.

    A set that is not whole, or not known to be, holds nothing, which is no error here.

    Raises: FileUnreadable: the journal is broken.
    """
    journal = published.read(cluster.daemon.journal, limit)
    accepted = acceptance.acknowledgements(cluster).keys()
    directory = BackupDirectory(cluster.backup.directory)
    sets = directory.sets()
    made = [known.manifest for known in reversed(sets) if known.is_whole]
    unread = [str(error) for error in directory.unread_manifests().values()]
    unread += [
        f"set {known.manifest.id}: {known.reason}" for known in sets if known.is_unknown
    ]
    beside = newest_point(cluster)
    others = [manifest.point for manifest in made] + ([beside] if beside else [])
    # The same point is in the journal, in a set and beside the files: once by its id.
    points = {point.id: point for point in [*journal.newest, *others]}
    newest = sorted(
        points.values(), key=lambda point: (point.timeline, point.time), reverse=True
    )[:limit]
    listed = [
        ListedPoint(
            point,
            tuple(manifest.id for manifest in made if manifest.point.id == point.id),
            len(find_open_damage(point, accepted)),
        )
        for point in newest
    ]
    points_of_sets = {manifest.point.id for manifest in made}
    return PointsAndRanges(
        listed,
        find_ranges(cluster, journal, made, others, accepted),
        max(len(listed), journal.number + len(points_of_sets)),
        unread,
    )
