"""Every point that is known, wherever it was written down.

That is in the journal, in the sets, and beside the Data.fs files.
"""

import datetime
import heapq
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.errors import FileUnreadable
from tidstorage.points import published
from tidstorage.points.beside import newest_point
from tidstorage.points.published import PublishedPoints
from tidstorage.sets.directory import BackupDirectory
from tidstorage.verbs.moments.clocks import Clocks

logger = logging.getLogger(__name__)

_ID = re.compile(r"(\d+)-(\d{8}T\d{6}\.\d{6}Z)")


@dataclass(frozen=True, slots=True)
class KnownPoints:
    """The points of a cluster, with storages under their present ids when asked for.

    published: those of the journal.  others: of sets, their floors, and beside the
    files.  accepted: ids of half commits that somebody accepted.
    """

    cluster: Cluster
    published: PublishedPoints
    others: Sequence[Point]
    accepted: Collection[bytes]

    def by_id(self, point_id: str) -> Point | None:
        """The point of that id; None where there is none."""
        for point in self.others:
            if point.id == point_id:
                return self._with_present_ids(point)
        match = _ID.fullmatch(point_id)
        if match is None:
            return None
        try:
            time = datetime.datetime.strptime(match[2], "%Y%m%dT%H%M%S.%f%z")
        except ValueError:
            return None
        found = self.published.by_id(point_id, int(match[1]), time)
        return found and self._with_present_ids(found)

    def timelines(self) -> list[int]:
        """The numbers of all timelines that a point is known of, in their order."""
        of_others = {point.timeline for point in self.others}
        return sorted(of_others.union(self.published.timelines()))

    def begin(self, timeline: int) -> datetime.datetime:
        """When a timeline began, in UTC, by the first point that is known of it."""
        first = self.published.first(timeline, lambda _point: True)
        times = [point.time for point in self.others if point.timeline == timeline]
        return min(times + ([first.time] if first else []))

    def timeline_at(self, moment: datetime.datetime) -> int | None:
        """The timeline that was lived then; None before the first one began."""
        begun = [number for number in self.timelines() if self.begin(number) <= moment]
        return max(begun, default=None)

    def before(self, timeline: int, moment: datetime.datetime) -> Iterator[Point]:
        """Points up to then to build on, newest first: verified and not damaged."""
        of_journal = self.published.before(timeline, moment)
        others = self._others(timeline)[::-1]
        others = [point for point in others if point.time <= moment]
        merged = heapq.merge(others, of_journal, key=_time_of, reverse=True)
        yield from self._sound(merged)

    def after(self, timeline: int, moment: datetime.datetime) -> Iterator[Point]:
        """Points after then to build on, oldest first: verified and not damaged."""
        of_journal = self.published.after(timeline, moment)
        others = [point for point in self._others(timeline) if point.time > moment]
        yield from self._sound(heapq.merge(others, of_journal, key=_time_of))

    def clocks(self, timeline: int, moment: datetime.datetime) -> Clocks:
        """The servers' clocks around a moment of a timeline."""
        points = [*self.published.measured(timeline), *self._others(timeline)]
        points = [point for point in points if point.source == "barrier" and point.skew]
        points.sort(key=_time_of)
        before = [point for point in points if point.time <= moment][-1:]
        after = [point for point in points if point.time > moment][:1]
        return Clocks(
            *(
                self._with_present_ids(found[0]).skew if found else {}
                for found in (before, after)
            )
        )

    def _others(self, timeline: int) -> list[Point]:
        """Those of a timeline that are not of the journal, oldest first."""
        others = [point for point in self.others if point.timeline == timeline]
        return sorted(others, key=_time_of)

    def _sound(self, points: Iterable[Point]) -> Iterator[Point]:
        """Those that can be built on; read no further than the caller asks for."""
        for point in points:
            is_damaged = any(
                half.commit_id not in self.accepted for half in point.damage
            )
            if point.verified and not is_damaged:
                yield self._with_present_ids(point)

    def _with_present_ids(self, point: Point) -> Point:
        """The point with storages under the ids that they have by now."""
        return replace(
            point,
            vector=self.cluster.present_ids(point.vector),
            skew=self.cluster.present_ids(point.skew),
        )


def _time_of(point: Point) -> datetime.datetime:
    return point.time


def read_known_points(
    cluster: Cluster, directory: BackupDirectory, accepted: Collection[bytes]
) -> KnownPoints:
    """All points of a cluster whose sets are in the directory.

    What cannot be read any more is passed over: a restore has to go without.

    accepted: ids of half commits that somebody accepted.
    """
    made = directory.manifests()
    others = [manifest.point for manifest in made]
    others += [manifest.floor for manifest in made if manifest.floor is not None]
    try:
        if beside := newest_point(cluster):
            others.append(beside)
    except FileUnreadable as error:
        logger.warning("%s", error)
    try:
        of_journal = published.read(cluster.daemon.journal, 0)
    except FileUnreadable as error:
        logger.warning("%s", error)
        of_journal = published.NOTHING
    return KnownPoints(cluster, of_journal, others, accepted)
