"""What moments can be restored from: the live files, and the backup sets."""

import datetime
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.engines import filestorage
from tidstorage.errors import FileUnreadable
from tidstorage.points.published import PublishedPoints
from tidstorage.sets.manifest import Manifest
from tidstorage.system import presence

logger = logging.getLogger(__name__)

LIVE = "live files"


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The time between two moments of one timeline, both inclusive, in UTC."""

    timeline: int
    begin: datetime.datetime
    end: datetime.datetime

    def covers(self, other: "TimeSpan") -> bool:
        """Whether the whole of the other lies in this one."""
        return (
            self.timeline == other.timeline
            and self.begin <= other.begin
            and other.end <= self.end
        )


@dataclass(frozen=True, slots=True)
class RestoreSource(TimeSpan):
    """Something that holds every state of its time span; name: in words."""

    name: str


def find_live_files(
    cluster: Cluster,
    journal: PublishedPoints,
    others: Sequence[Point],
    timeline: int,
) -> Iterator[RestoreSource]:
    """What the live files hold of the present timeline: all above their last pack.

    others: points that are known besides those of the journal.  Nothing where a file
    cannot be read, or no point lies above the last pack.
    """
    try:
        packed = {
            storage.id: filestorage.packed_above(storage.data_file, 0)
            for storage in cluster.storages
        }
    except (FileUnreadable, OSError) as error:
        # On other machines, or lost: there are the sets.
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, presence.ABSENT):
            logger.warning("what the live files hold is not known: %s", error)
        return
    is_held = _is_at_or_above(cluster, packed)
    known = [point for point in others if point.timeline == timeline]
    begins = [point for point in known if is_held(point)]
    if (first := journal.first(timeline, is_held)) is not None:
        begins.append(first)
    if begins:
        # The files are written on: they hold all up to the newest point of theirs.
        last_points = [run.last for run in journal.series if run.timeline == timeline]
        yield RestoreSource(
            timeline,
            min(point.time for point in begins),
            max(point.complete for point in begins + last_points),
            LIVE,
        )


def find_sets(
    cluster: Cluster,
    journal: PublishedPoints,
    points: Sequence[Point],
    made: Sequence[Manifest],
) -> list[RestoreSource]:
    """What the sets hold, each with those that it goes on from.

    points: of the sets, and others that are known besides those of the journal.
    made: manifests of the whole sets, oldest first.
    """
    sources: list[RestoreSource] = []
    for before, manifest in zip([None, *made], made, strict=False):
        end, timeline = manifest.point.complete, manifest.point.timeline
        if before is not None and _goes_on(before, manifest):
            # Its copies begin with those of the set before, and so hold all of that
            # set's time, too: one source takes the place of the other.
            begin = sources.pop().begin
        else:
            # The copies alone: from the first point above the last pack in them.
            begin = min(_held_since(cluster, journal, points, manifest))
        sources.append(RestoreSource(timeline, begin, end, f"set {manifest.id}"))
    # A point is an interval; copies that hold nothing before its end hold no moment.
    return [source for source in sources if source.begin <= source.end]


def _held_since(
    cluster: Cluster,
    journal: PublishedPoints,
    points: Sequence[Point],
    made: Manifest,
) -> Iterator[datetime.datetime]:
    """Times of points from which on a set's copies hold everything, its own first."""
    yield made.point.time
    if any(stored.packed is None for stored in made.storages):
        # Where it is not known what was packed, only the set's point is sure.
        return
    packed = cluster.present_ids(
        {stored.id: stored.packed or 0 for stored in made.storages}
    )
    is_held = _is_at_or_above(cluster, packed)
    timeline = made.point.timeline
    if (first := journal.first(timeline, is_held)) is not None:
        yield first.time
    for point in points:
        if point.timeline == timeline and is_held(point):
            yield point.time


def _is_at_or_above(
    cluster: Cluster, packed: Mapping[str, int]
) -> Callable[[Point], bool]:
    """Whether files that were packed so far still hold the state of a point.

    packed: {present storage id: TID of the last transaction that a pack left}.  A
    pack changes states before that TID only: the state at it, and all later ones,
    are whole.  Of the points of a timeline that are sorted by time the later ones
    are met as soon as one is, as `PublishedPoints.first` needs it.
    """

    def is_held(point: Point) -> bool:
        vector = cluster.present_ids(point.vector)
        return all(
            vector.get(storage_id, 0) >= last for storage_id, last in packed.items()
        )

    return is_held


def _goes_on(before: Manifest, made: Manifest) -> bool:
    """Whether a set's copies hold all that was there since the set before.

    They do where each storage's first file, repozo's full copy, is the same: what
    came later was only added to it.  A pack makes repozo start over; so does much
    else, but that loses nothing.
    """
    earlier = {storage.id: storage.files[:1] for storage in before.storages}
    return before.point.timeline == made.point.timeline and all(
        earlier.get(storage.id) == storage.files[:1] for storage in made.storages
    )
