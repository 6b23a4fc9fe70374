"""What holds which stretch of which timeline: the live files, and the sets."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.engines import filestorage
from tidstorage.errors import FileUnreadable
from tidstorage.points.published import PublishedPoints
from tidstorage.sets.manifest import Manifest

LIVE = "live files"


@dataclass(frozen=True, slots=True)
class Source:
    """Something that holds all between two moments of one timeline."""

    name: str
    timeline: int
    begin: datetime.datetime
    end: datetime.datetime

    def covers(
        self, timeline: int, begin: datetime.datetime, end: datetime.datetime
    ) -> bool:
        """Whether it holds the whole of that stretch."""
        return self.timeline == timeline and self.begin <= begin and end <= self.end


def live(
    cluster: Cluster,
    found: PublishedPoints,
    others: Sequence[Point],
    timeline: int,
) -> Iterator[Source]:
    """What the files hold of the present timeline, above their last pack."""
    try:
        packed = {
            each.id: filestorage.packed_above(each.data_file, 0)
            for each in cluster.storages
        }
    except FileUnreadable:
        # On other machines, or lost: there are the sets.
        return

    def is_above(point: Point) -> bool:
        vector = cluster.present_ids(point.vector)
        return all(vector.get(each, 0) >= last for each, last in packed.items())

    ends = [run.last for run in found.series if run.timeline == timeline]
    begins = [found.first(timeline, is_above)]
    begins += [each for each in others if each.timeline == timeline and is_above(each)]
    possible = [each for each in begins if each is not None]
    if possible:
        yield Source(
            LIVE,
            timeline,
            min(each.time for each in possible),
            max(each.time for each in possible + ends),
        )


def chains(
    cluster: Cluster,
    found: PublishedPoints,
    points: Sequence[Point],
    made: Sequence[Manifest],
) -> list[Source]:
    """Sets that each go on from the one before, oldest first.

    The first one of them holds all since its last pack.
    """
    found_chains: list[Source] = []
    for before, each in zip([None, *made], made, strict=False):
        at, timeline = each.point.time, each.point.timeline
        if before is not None and _goes_on(before, each):
            begin = found_chains.pop().begin
        else:
            begin = min(at, *_held_since(cluster, found, points, each))
        found_chains.append(Source(f"set {each.id}", timeline, begin, at))
    return found_chains


def _held_since(
    cluster: Cluster,
    found: PublishedPoints,
    points: Sequence[Point],
    made: Manifest,
) -> Iterator[datetime.datetime]:
    """Times of points from which on a set's copies hold everything."""
    yield made.point.time
    if any(stored.packed is None for stored in made.storages):
        return
    packed = cluster.present_ids(
        {stored.id: stored.packed or 0 for stored in made.storages}
    )

    def is_above(point: Point) -> bool:
        vector = cluster.present_ids(point.vector)
        return all(vector.get(each, 0) >= last for each, last in packed.items())

    timeline = made.point.timeline
    if (of_journal := found.first(timeline, is_above)) is not None:
        yield of_journal.time
    for each in points:
        if each.timeline == timeline and is_above(each):
            yield each.time


def _goes_on(before: Manifest, made: Manifest) -> bool:
    """Whether a set's copies hold all that was there since the one before.

    A pack makes repozo start over; so does much else, but that loses nothing.
    """
    earlier = {each.id: each.files[:1] for each in before.storages}
    return before.point.timeline == made.point.timeline and all(
        earlier.get(each.id) == each.files[:1] for each in made.storages
    )
