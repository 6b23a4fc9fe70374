"""Every point that is known, wherever it was written down: journal, sets, beside."""

import datetime
import heapq
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.errors import FileUnreadable
from tidstorage.points import published
from tidstorage.points.beside import newest_point
from tidstorage.points.published import PublishedPoints
from tidstorage.sets.directory import BackupDirectory

logger = logging.getLogger(__name__)

_ID = re.compile(r"(\d+)-(\d{8}T\d{6}\.\d{6}Z)")


@dataclass(frozen=True, slots=True)
class KnownPoints:
    """published: those of the journal.  others: of sets, their floors, and beside
    the files.  accepted: ids of half commits that somebody accepted."""

    cluster: Cluster
    published: PublishedPoints
    others: Sequence[Point]
    accepted: Collection[bytes]

    def by_id(self, point_id: str) -> Point | None:
        """The point of that id."""
        for each in self.others:
            if each.id == point_id:
                return self._of_now(each)
        match = _ID.fullmatch(point_id)
        if match is None:
            return None
        try:
            time = datetime.datetime.strptime(match[2], "%Y%m%dT%H%M%S.%f%z")
        except ValueError:
            return None
        found = self.published.first(int(match[1]), lambda each: each.time >= time)
        return self._of_now(found) if found and found.id == point_id else None

    def timelines(self) -> list[int]:
        """The numbers of all, in their order."""
        found = {each.timeline for each in self.others}
        return sorted(found.union(self.published.timelines()))

    def begin(self, timeline: int) -> datetime.datetime:
        """When a timeline began, by the first point that is known of it."""
        of_journal = self.published.first(timeline, lambda each: True)
        times = [each.time for each in self.others if each.timeline == timeline]
        return min(times + ([of_journal.time] if of_journal else []))

    def timeline_at(self, moment: datetime.datetime) -> int | None:
        """The one that was lived then; None before the first one began."""
        lived = [each for each in self.timelines() if self.begin(each) <= moment]
        return max(lived, default=None)

    def before(self, timeline: int, moment: datetime.datetime) -> Iterator[Point]:
        """Points up to then to build on, newest first: verified and not damaged."""
        others = sorted(
            (
                each
                for each in self.others
                if each.timeline == timeline and each.time <= moment
            ),
            key=lambda each: each.time,
            reverse=True,
        )
        of_journal = self.published.before(timeline, moment)
        yield from filter(None, map(self._sound, _merged(others, of_journal, True)))

    def after(self, timeline: int, moment: datetime.datetime) -> Iterator[Point]:
        """Points after then to build on, oldest first."""
        others = sorted(
            (
                each
                for each in self.others
                if each.timeline == timeline and each.time > moment
            ),
            key=lambda each: each.time,
        )
        of_journal = self.published.after(timeline, moment)
        yield from filter(None, map(self._sound, _merged(others, of_journal, False)))

    def _sound(self, found: Point) -> Point | None:
        open_damage = [
            each for each in found.damage if each.commit_id not in self.accepted
        ]
        if not found.verified or open_damage:
            return None
        return self._of_now(found)

    def _of_now(self, found: Point) -> Point:
        """Under the ids that storages have by now."""
        return replace(found, vector=self.cluster.present_ids(found.vector))


def _merged(
    some: Sequence[Point], others: Iterator[Point], newest_first: bool
) -> Iterator[Point]:
    """Both in the order of their times; read no further than asked for."""
    return heapq.merge(some, others, key=lambda each: each.time, reverse=newest_first)


def known_points(
    cluster: Cluster, directory: BackupDirectory, accepted: Collection[bytes]
) -> KnownPoints:
    """All of a cluster whose sets are in the directory.

    accepted: ids of half commits that somebody accepted.  What cannot be read any
    more is passed over: a restore has to go without.
    """
    made = directory.manifests()
    others = [each.point for each in made]
    others += [each.floor for each in made if each.floor is not None]
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
