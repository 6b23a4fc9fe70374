"""Which set to restore for a moment or a point, and how to cut its copies there.

A set's copies hold every state from their last pack up to the set's point.  The
state of a moment between two known points is computed from the records.  That
computation begins at the floor: the last point before the moment that is verified
and without half commits.
"""

import datetime
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tidstorage.coherence.point import Point
from tidstorage.errors import NoSuchSet, NotReachable, SetUnreadable
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.manifest import Manifest
from tidstorage.system.clock import in_both, local
from tidstorage.verbs.moments.clocks import Clocks
from tidstorage.verbs.moments.known import KnownPoints

UNVERIFIED = "writers without stamps: nobody can tell what fits together"
PACKED = "no set holds it any more: it was packed away"
BROKEN = "no set that reaches it is whole (bin/cluster backups)"
UNKNOWN = "nobody knows whether a set that reaches it is whole (bin/cluster verify)"
NOT_YET = "no set reaches it yet"
LOST = "that timeline was left by a restore, and no set reaches so far"
#: Points looked at on either side for one that a set holds.
_SEARCHED = 10_000


@dataclass(frozen=True, slots=True)
class Goal:
    """Where to cut a set's copies: at a moment, or at a point.

    moment: in UTC; nothing that was committed later is kept.  floor: the known
    point from which the cut is computed; None: from the start of the files.
    point: the one that was asked for, None where it was a moment.  nearest: the
    points on both sides, in words.  ceiling: the next known point that has all that
    was acknowledged by the moment; what it has not was not.  clocks: of the servers,
    around the moment.
    """

    moment: datetime.datetime
    floor: Point | None
    point: Point | None = None
    nearest: str = ""
    ceiling: Point | None = None
    clocks: Clocks = field(default_factory=Clocks)

    @property
    def doubt(self) -> float:
        """Seconds by which the moment may be missed; 0 where it was a point.

        A server's clock counts no more than what lies between two points; unless it is
        ours that may be wrong, by which they have their times.
        """
        if self.point is not None:
            return 0.0
        doubt = max(self.clocks.doubt, abs(self.clocks.common))
        is_ours = self.clocks.common or self.clocks.changed_alike
        if is_ours or self.floor is None or self.ceiling is None:
            return doubt
        between = self.ceiling.time - self.floor.complete
        return min(doubt, max(between.total_seconds(), 0.0))

    def bounds(self, given: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """{storage id: the last TID that may be kept}, inclusive.

        given: {storage id: TIDs that it gave after the floor, in their order}.
        """
        if self.point is not None:
            return {storage: self.point.vector.get(storage, 0) for storage in given}
        # A TID is compared with the time asked, never with one of another storage.
        bounds = self.clocks.last_by(self.moment, given)
        # What the ceiling has not, nobody was told of by then; and the floor was there
        # at that moment: whatever clock gave the TIDs.
        ceiling = self.ceiling.vector if self.ceiling is not None else {}
        return {
            storage: max(min(last, ceiling.get(storage, last)), self.floor_of(storage))
            for storage, last in bounds.items()
        }

    def of_known_point(self) -> "Goal":
        """The goal for some storages alone: a known point, which is not computed.

        Raises: NotReachable: no point is known at or before the moment.
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
        """The last TID of a storage, by its id, that is trusted as it stands."""
        return self.floor.vector.get(storage, 0) if self.floor else 0


def find_set_for_point(
    known: KnownPoints, sets: Sequence[BackupSet], point_id: str
) -> tuple[Manifest, Goal]:
    """The set, and how to cut it, that bring a published point back.

    sets: all there are, newest first, with storages under their present ids.

    Raises:
      NoSuchSet: nobody knows of the point.
      NotReachable: no set holds it.
      SetUnreadable: nobody can tell whether one does.
    """
    wanted = known.by_id(point_id)
    if wanted is None:
        raise NoSuchSet(
            f"no set has the point {point_id}, nor does the journal know it",
            "bin/cluster points --all lists what there is.",
        )
    holding = [
        known_set for known_set in sets if _is_within(wanted, known_set.manifest)
    ]
    set_and_floor = None
    if wanted.verified:
        set_and_floor = _find_oldest(known, holding, wanted.time, wanted)
    if set_and_floor is None:
        why = UNVERIFIED
        if wanted.verified:
            why = _why_not(known, sets, wanted.timeline, wanted.time, Clocks())
        raise _not_reachable(known, sets, wanted.timeline, wanted.time, why)
    manifest, floor = set_and_floor
    nearest = _nearest(known, sets, wanted.timeline, wanted.time)
    return manifest, Goal(wanted.time, floor, wanted, nearest)


def find_set_for_moment(
    known: KnownPoints,
    sets: Sequence[BackupSet],
    moment: datetime.datetime,
    timeline: int | None,
) -> tuple[Manifest, Goal]:
    """The set, and how to cut it, that bring the state of a moment back.

    sets: all there are, newest first, with storages under their present ids.
    timeline: None: the one that was lived then.

    Raises:
      NotReachable: no set holds it.
      SetUnreadable: nobody can tell whether one does.
    """
    if timeline is None:
        timeline = known.timeline_at(moment) or min(known.timelines(), default=1)
    set_and_floor, ceiling, clocks = None, None, Clocks()
    if timeline in known.timelines() and known.begin(timeline) <= moment:
        clocks = known.clocks(timeline, moment)
        ceiling = _find_ceiling(known, timeline, moment, clocks)
        reaching = [
            known_set
            for known_set in sets
            if _reaches(known_set.manifest, timeline, moment, clocks)
        ]
        set_and_floor = _find_oldest(
            known, reaching, moment, within=ceiling, clocks=clocks
        )
    if set_and_floor is None:
        why = _why_not(known, sets, timeline, moment, clocks)
        raise _not_reachable(known, sets, timeline, moment, why)
    manifest, floor = set_and_floor
    nearest = _nearest(known, sets, timeline, moment)
    return manifest, Goal(moment, floor, None, nearest, ceiling, clocks)


def _reaches(
    manifest: Manifest, timeline: int, moment: datetime.datetime, clocks: Clocks
) -> bool:
    """Whether a set has all that was acknowledged by a moment of a timeline."""
    point = manifest.point
    return point.timeline == timeline and clocks.earliest_complete(point) >= moment


def _find_ceiling(
    known: KnownPoints, timeline: int, moment: datetime.datetime, clocks: Clocks
) -> Point | None:
    """The first point that has all that was acknowledged by a moment.

    Of those that say so: former versions did not.
    """
    # Of those before it only one that is of this very moment.
    before = itertools.islice(known.before(timeline, moment), 1)
    after = itertools.islice(known.after(timeline, moment), _SEARCHED)
    for point in itertools.chain(before, after):
        if point.complete_until and clocks.earliest_complete(point) >= moment:
            return point
    return None


def _find_oldest(
    known: KnownPoints,
    sets: Sequence[BackupSet],
    moment: datetime.datetime,
    within: Point | None = None,
    clocks: Clocks | None = None,
) -> tuple[Manifest, Point | None] | None:
    """The oldest whole set that can be cut there, and the floor to cut it from.

    Later sets may do as well, but they are longer, and more of them has to go.

    sets: those that reach the moment, newest first.  within: what is above that point
    is no floor, whatever its time.  clocks: of the servers; a point by a clock that may
    have been slow is no floor.
    """
    for known_set in reversed(sets):
        manifest = known_set.manifest
        if not known_set.is_whole or _lacks_packs(manifest):
            continue
        for floor in known.before(manifest.point.timeline, moment):
            # A daemon that is behind writes down less than a barrier did before: of
            # two points the earlier one may hold more of a storage.
            if within is not None and not _is_at_or_below(floor, within):
                continue
            if clocks is not None and clocks.latest(floor) > moment:
                continue
            if _is_within(floor, manifest):
                # Newest first: with this one the least has to be computed.
                return manifest, floor
            if _is_packed_away(floor, manifest):
                # So is every point before it, and the start of the files.
                break
        else:
            # No point is a floor.  The start of the files is one where all records
            # are still there, which no pack has removed.
            if not any(stored.packed for stored in manifest.storages):
                return manifest, None
    return None


def _lacks_packs(manifest: Manifest) -> bool:
    """Whether it is not known of a storage how far its copies were packed."""
    return any(stored.packed is None for stored in manifest.storages)


def _is_within(point: Point, manifest: Manifest) -> bool:
    """Whether a set's copies still hold, and already hold, the state of a point."""
    return point.timeline == manifest.point.timeline and all(
        (stored.packed or 0)
        <= point.vector.get(stored.id, 0)
        <= manifest.point.vector.get(stored.id, 0)
        for stored in manifest.storages
    )


def _is_at_or_below(floor: Point, wanted: Point) -> bool:
    """Whether a point holds nothing that the wanted one does not hold."""
    return all(
        floor.vector.get(storage, 0) <= last for storage, last in wanted.vector.items()
    )


def _is_packed_away(point: Point, manifest: Manifest) -> bool:
    """Whether a pack has removed a part of a point's state from a set's copies."""
    return any(
        point.vector.get(stored.id, 0) < (stored.packed or 0)
        for stored in manifest.storages
    )


def _why_not(
    known: KnownPoints,
    sets: Sequence[BackupSet],
    timeline: int,
    moment: datetime.datetime,
    clocks: Clocks,
) -> str:
    """Why no set brings that moment back, in words."""
    timelines = known.timelines()
    if timeline not in timelines:
        return f"nothing is known of timeline {timeline}"
    if moment < known.begin(timeline):
        return f"timeline {timeline} began at {local(known.begin(timeline))}"
    of_timeline = [
        known_set for known_set in sets if known_set.manifest.point.timeline == timeline
    ]
    if any(
        _reaches(known_set.manifest, timeline, moment, clocks)
        for known_set in of_timeline
    ):
        if any(known_set.is_unknown for known_set in of_timeline):
            return UNKNOWN
        whole = [known_set for known_set in of_timeline if known_set.is_whole]
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
        for point in itertools.islice(points, _SEARCHED):
            if any(
                known_set.is_whole and _is_within(point, known_set.manifest)
                for known_set in sets
            ):
                when = local(point.time)
                sides.append(f"the nearest {side}: --to {point.id}, {when}")
                break
    return "\n".join(sides)


def _not_reachable(
    known: KnownPoints,
    sets: Sequence[BackupSet],
    timeline: int,
    moment: datetime.datetime,
    why: str,
) -> NotReachable | SetUnreadable:
    """The error that says why, with what can be had back instead."""
    hint = _nearest(known, sets, timeline, moment)
    if why == NOT_YET:
        hint = f"bin/cluster backup makes one that does.\n{hint}".rstrip()
    what = (
        f"the state of {in_both(moment)} on timeline {timeline} cannot be restored:"
        f" {why}"
    )
    if why == UNKNOWN:
        reasons = (known_set.reason for known_set in sets if known_set.is_unknown)
        return SetUnreadable(f"{what}: {next(reasons)}", hint or None)
    return NotReachable(what, hint or None)
