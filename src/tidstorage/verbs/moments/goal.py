"""A moment, or a point, that is asked for: which set holds it, and from where on.

A set's copies hold every state from their last pack up to the set's point.  What
lies between points that are known is computed from the records; that begins at
the last point before which is verified and without half commits.
"""

import datetime
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.errors import NoSuchSet, NotReachable
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.manifest import Manifest
from tidstorage.system.clock import in_both, local
from tidstorage.verbs.moments.known import KnownPoints

UNVERIFIED = "writers without stamps: nobody can tell what fits together"
PACKED = "no set holds it any more: it was packed away"
BROKEN = "no set that reaches it is whole (bin/cluster backups)"
NOT_YET = "no set reaches it yet"
LOST = "that timeline was left by a restore, and no set reaches so far"
#: Points looked at on either side for one that a set holds.
_SEARCHED = 10_000


@dataclass(frozen=True, slots=True)
class Goal:
    """What to cut a set's copies at, at or below the set's own point.

    moment: in UTC; of what was committed later nothing is kept.  floor: the known
    point from which the cut is computed; None: from the start of the files.
    point: the one that was asked for, None where it was a moment.  nearest: the
    points on both sides, in words.
    """

    moment: datetime.datetime
    floor: Point | None
    point: Point | None = None
    nearest: str = ""

    def bound(self, storage: str) -> int:
        """The last TID of a storage that may be kept."""
        if self.point is not None:
            return self.point.vector.get(storage, 0)
        # A TID is compared with the time asked, never with one of another storage.
        return max(tid.last_at(self.moment), self.floor_of(storage))

    def of_known_point(self) -> "Goal":
        """The same where only some storages are looked at: without a computation.

        NotReachable where no point is known at or before the moment.
        """
        if self.point is not None:
            return self
        if self.floor is None:
            raise NotReachable(
                f"no point is known at or before {in_both(self.moment)}, and some"
                " storages alone do not tell what fits together",
                "Restore all of them.",
            )
        return replace(self, point=self.floor)

    def floor_of(self, storage: str) -> int:
        """The last TID of a storage that is trusted as it stands."""
        return self.floor.vector.get(storage, 0) if self.floor else 0


def of_point(
    known: KnownPoints, sets: Sequence[BackupSet], point_id: str
) -> tuple[Manifest, Goal]:
    """The set, and how to cut it, that bring a published point back.

    sets: all there are, newest first, in the ids of now.  NoSuchSet where nobody
    knows of the point, NotReachable where no set holds it.
    """
    wanted = known.by_id(point_id)
    if wanted is None:
        raise NoSuchSet(
            f"no set has the point {point_id}, nor does the journal know it",
            "bin/cluster points --all lists what there is.",
        )
    holding = [each for each in sets if _is_within(wanted, each.manifest)]
    found = None
    if wanted.verified:
        found = _oldest(known, holding, wanted.time, wanted)
    if found is None:
        why = UNVERIFIED
        if wanted.verified:
            why = _why_not(known, sets, wanted.timeline, wanted.time)
        raise not_reachable(known, sets, wanted.timeline, wanted.time, why)
    manifest, floor = found
    nearest = _nearest(known, sets, wanted.timeline, wanted.time)
    return manifest, Goal(wanted.time, floor, wanted, nearest)


def of_moment(
    known: KnownPoints,
    sets: Sequence[BackupSet],
    moment: datetime.datetime,
    timeline: int | None,
) -> tuple[Manifest, Goal]:
    """The set, and how to cut it, that bring the state of a moment back.

    timeline: None: the one that was lived then.  NotReachable.
    """
    if timeline is None:
        timeline = known.timeline_at(moment) or min(known.timelines(), default=1)
    reaching = [
        each
        for each in sets
        if each.manifest.point.timeline == timeline
        and each.manifest.point.time >= moment
    ]
    found = None
    if timeline in known.timelines() and known.begin(timeline) <= moment:
        found = _oldest(known, reaching, moment)
    if found is None:
        why = _why_not(known, sets, timeline, moment)
        raise not_reachable(known, sets, timeline, moment, why)
    manifest, floor = found
    return manifest, Goal(moment, floor, None, _nearest(known, sets, timeline, moment))


def _oldest(
    known: KnownPoints,
    sets: Sequence[BackupSet],
    moment: datetime.datetime,
    wanted: Point | None = None,
) -> tuple[Manifest, Point | None] | None:
    """The oldest whole set that can be cut there, and the floor to cut it from.

    wanted: that point is asked for; what is above it is no floor, whatever its time.
    Later ones can be too, but are longer, and more of them has to go.
    """
    for each in reversed(sets):
        manifest = each.manifest
        if not each.is_whole or any(one.packed is None for one in manifest.storages):
            continue
        for floor in known.before(manifest.point.timeline, moment):
            if wanted is not None and not _is_at_or_below(floor, wanted):
                continue
            if _is_within(floor, manifest):
                return manifest, floor
            if _is_packed_away(floor, manifest):
                break
        else:
            if not any(one.packed for one in manifest.storages):
                return manifest, None
    return None


def _is_within(point: Point, manifest: Manifest) -> bool:
    """Whether a set's copies still hold, and already hold, the state of a point."""
    return point.timeline == manifest.point.timeline and all(
        (stored.packed or 0)
        <= point.vector.get(stored.id, 0)
        <= manifest.point.vector.get(stored.id, 0)
        for stored in manifest.storages
    )


def _is_at_or_below(floor: Point, wanted: Point) -> bool:
    return all(
        floor.vector.get(storage, 0) <= last for storage, last in wanted.vector.items()
    )


def _is_packed_away(point: Point, manifest: Manifest) -> bool:
    return any(
        point.vector.get(stored.id, 0) < (stored.packed or 0)
        for stored in manifest.storages
    )


def _why_not(
    known: KnownPoints,
    sets: Sequence[BackupSet],
    timeline: int,
    moment: datetime.datetime,
) -> str:
    """Why no set brings that moment back."""
    timelines = known.timelines()
    if timeline not in timelines:
        return f"nothing is known of timeline {timeline}"
    if moment < known.begin(timeline):
        return f"timeline {timeline} began at {local(known.begin(timeline))}"
    of_timeline = [each for each in sets if each.manifest.point.timeline == timeline]
    if any(each.manifest.point.time >= moment for each in of_timeline):
        whole = [each for each in of_timeline if each.is_whole]
        return PACKED if whole else BROKEN
    return NOT_YET if timeline == timelines[-1] else LOST


def _nearest(
    known: KnownPoints,
    sets: Sequence[BackupSet],
    timeline: int,
    moment: datetime.datetime,
) -> str:
    """The nearest points on both sides that can be had back, in words."""
    sides = []
    for side, points in (
        ("before", known.before(timeline, moment)),
        ("after", known.after(timeline, moment)),
    ):
        for each in itertools.islice(points, _SEARCHED):
            if any(one.is_whole and _is_within(each, one.manifest) for one in sets):
                sides.append(f"the nearest {side}: --to {each.id}, {local(each.time)}")
                break
    return "\n".join(sides)


def not_reachable(
    known: KnownPoints,
    sets: Sequence[BackupSet],
    timeline: int,
    moment: datetime.datetime,
    why: str,
) -> NotReachable:
    """The error, with what can be had back instead."""
    hint = _nearest(known, sets, timeline, moment)
    if why == NOT_YET:
        hint = f"bin/cluster backup makes one that does.\n{hint}".rstrip()
    return NotReachable(
        f"the state of {in_both(moment)} on timeline {timeline} cannot be restored:"
        f" {why}",
        hint or None,
    )
