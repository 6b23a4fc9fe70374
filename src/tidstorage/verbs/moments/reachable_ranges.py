"""Which stretches of time can be restored, any moment of them, and which cannot.

A range lies between points of one timeline.  Any moment in it can be restored where
all its writers left stamps, so that it can be computed what fits together, and where
the live files, or a set and those that it goes on from, still hold what was there.

First it is found what is known of the time between points: from the journal, and
where that tells nothing, from the sets.  Then these ranges are split where the live
files, or a set, begin or end; each piece is held by a source as a whole or not at
all.  At last neighbours that are alike become one.
"""

import datetime
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.points.published import PointSeries, PublishedPoints
from tidstorage.points.timelines import known_timeline
from tidstorage.sets.manifest import Manifest
from tidstorage.verbs.moments import restore_sources
from tidstorage.verbs.moments.clocks import find_doubt
from tidstorage.verbs.moments.goal import UNVERIFIED
from tidstorage.verbs.moments.restore_sources import RestoreSource, TimeSpan

GONE = "neither the live files nor a whole set hold it"
UNKNOWN = (
    "no journal tells of that time, and no set examined it (restore --to reads the"
    " records)"
)
LOST = "of a timeline that was left by a restore, and in no set"


@dataclass(frozen=True, slots=True)
class TimeRange(TimeSpan):
    """A range from point to point, reachable or a gap; or a single moment.

    sources: names of what it can be restored from; none: a gap, and ``reason`` says
    why.  damaged: half commits are inside that nobody has accepted by now.  doubt:
    seconds by which a moment in it may be missed, since clocks are wrong.
    """

    sources: tuple[str, ...]
    reason: str
    damaged: bool
    doubt: float = 0.0

    @property
    def is_gap(self) -> bool:
        return not self.sources


def find_open_damage(point: Point, accepted: Collection[bytes]) -> list[HalfCommit]:
    """The half commits inside a point that nobody has accepted.

    accepted: ids of those that somebody has.
    """
    return [half for half in point.damage if half.commit_id not in accepted]


def find_ranges(
    cluster: Cluster,
    journal: PublishedPoints,
    made: Sequence[Manifest],
    others: Sequence[Point],
    accepted: Collection[bytes],
) -> list[TimeRange]:
    """Every range, reachable or a gap, newest first.

    made: manifests of the whole sets, oldest first.  others: their points, and the
    one beside the files.  accepted: ids of half commits that somebody accepted.
    """
    timeline = known_timeline(cluster)
    floors = [manifest.floor for manifest in made if manifest.floor is not None]
    points = [*others, *floors]
    sources = [
        *restore_sources.find_live_files(cluster, journal, others, timeline),
        *restore_sources.find_sets(cluster, journal, points, made),
    ]
    # The journal knows best: sets only tell of what it does not reach.
    known = [*_from_journal(journal.series, accepted)]
    known += _from_sets(made, points, known, accepted)
    # Split where sources begin and end, no piece is held in part: one comparison of
    # both its ends with a source's tells whether any moment in it is held.
    pieces = [
        _with_sources(piece, sources, timeline)
        for known_range in known
        for piece in _split(known_range, sources)
    ]
    # A set is restored at its own point whatever is known of the time around it, and
    # a source may begin or end in a gap: each such moment is a range of its own,
    # unless one that is reachable has it.
    moments = {
        (source.timeline, moment): False
        for source in sources
        for moment in (source.begin, source.end)
    }
    # Of a point it is known what damage is inside, so these win over the above.
    moments |= {
        (point.timeline, point.complete): bool(find_open_damage(point, accepted))
        for point in others
    }
    for (number, time), is_damaged in moments.items():
        moment = TimeRange(number, time, time, (), "", is_damaged)
        if not any(not piece.is_gap and piece.covers(moment) for piece in pieces):
            pieces.append(_with_sources(moment, sources, timeline))
    pieces.sort(key=lambda piece: (piece.timeline, piece.begin, piece.end))
    ranges = [*_join_alike(pieces)][::-1]
    return _with_doubts(cluster, journal, points, ranges)


def _with_doubts(
    cluster: Cluster,
    journal: PublishedPoints,
    points: Sequence[Point],
    ranges: Sequence[TimeRange],
) -> list[TimeRange]:
    """The ranges with what the clocks of servers, as they were measured, leave open."""
    measured = {
        timeline: sorted(
            (
                replace(point, skew=cluster.present_ids(point.skew))
                for point in [*journal.measured(timeline), *points]
                if point.timeline == timeline
                if point.source == "barrier" and point.skew
            ),
            key=lambda point: point.time,
        )
        for timeline in {time_range.timeline for time_range in ranges}
    }
    return [
        replace(
            time_range,
            doubt=find_doubt(
                measured[time_range.timeline], time_range.begin, time_range.end
            ),
        )
        for time_range in ranges
    ]


def _from_journal(
    runs: Sequence[PointSeries], accepted: Collection[bytes]
) -> Iterator[TimeRange]:
    """The time of the journal's points, without sources, oldest first.

    runs: points in a row that are alike, oldest first.
    """
    before: PointSeries | None = None
    for run in runs:
        if before is not None and before.timeline == run.timeline:
            # A moment between the two runs is computed by stamps, from the last point
            # before it: that one has to be verified.  The next one has to be as well:
            # it is not where anybody has written without stamps in between.  Damage
            # is told by the point before: what the next run has came with its points.
            is_verified = before.verified and run.verified
            yield TimeRange(
                run.timeline,
                *_in_order(before.last.time, run.first.time),
                (),
                "" if is_verified else UNVERIFIED,
                bool(find_open_damage(before.last, accepted)),
            )
        yield TimeRange(
            run.timeline,
            *_in_order(run.first.time, run.last.time),
            (),
            "" if run.verified else UNVERIFIED,
            bool(find_open_damage(run.last, accepted)),
        )
        before = run


def _in_order(
    one: datetime.datetime, other: datetime.datetime
) -> tuple[datetime.datetime, datetime.datetime]:
    """Both, the earlier one first: a clock may have been set back between them."""
    return min(one, other), max(one, other)


def _from_sets(
    made: Sequence[Manifest],
    points: Sequence[Point],
    known: Sequence[TimeRange],
    accepted: Collection[bytes],
) -> Iterator[TimeRange]:
    """The time between points that no journal tells of, or none any more.

    known: what the journal tells.
    """
    moments = {(point.timeline, point.time) for point in points}
    for known_range in known:
        moments.add((known_range.timeline, known_range.begin))
        moments.add((known_range.timeline, known_range.end))
    # Between neighbours there is no point and no end of a range: the journal knows
    # all of that time or nothing of it.
    for (timeline, begin), (same, end) in pairwise(sorted(moments)):
        between = TimeRange(timeline, begin, end, (), "", False)
        if timeline != same or any(other.covers(between) for other in known):
            continue
        # What the first set after it found is all there is to know of that time;
        # where no set came after it, there is nothing.
        first_after = next(
            (
                manifest
                for manifest in made
                if manifest.point.timeline == timeline and manifest.point.time >= end
            ),
            None,
        )
        if first_after is not None:
            yield replace(
                between,
                reason=_reason_of_set(first_after, begin),
                damaged=bool(find_open_damage(first_after.point, accepted)),
            )


def _reason_of_set(made: Manifest, begin: datetime.datetime) -> str:
    """Why the time from ``begin`` to a set's point is a gap; empty where it is none.

    A set knows of records without stamps above its floor, and of none below.
    """
    if made.floor is not None and begin < made.floor.time:
        return UNKNOWN
    return UNVERIFIED if any(made.unstamped.values()) else ""


def _split(whole: TimeRange, sources: Sequence[RestoreSource]) -> Iterator[TimeRange]:
    """The range in pieces, none of which a source covers in part."""
    if whole.begin == whole.end:
        yield whole
        return
    inside = {
        moment
        for source in sources
        if source.timeline == whole.timeline
        for moment in (source.begin, source.end)
        if whole.begin < moment < whole.end
    }
    for begin, end in pairwise(sorted({whole.begin, *inside, whole.end})):
        yield replace(whole, begin=begin, end=end)


def _with_sources(
    piece: TimeRange, sources: Sequence[RestoreSource], timeline: int
) -> TimeRange:
    """The piece with what it can be restored from, or with the reason why it cannot.

    timeline: the present one.
    """
    if piece.reason == UNVERIFIED:
        return piece
    names = tuple(source.name for source in sources if source.covers(piece))
    if not names:
        return replace(piece, reason=LOST if piece.timeline < timeline else GONE)
    return piece if piece.reason else replace(piece, sources=names)


def _join_alike(pieces: Sequence[TimeRange]) -> Iterator[TimeRange]:
    """The pieces, where neighbours that touch and differ in nothing else are one.

    pieces: in the order of timeline, begin and end.
    """
    last: TimeRange | None = None
    for piece in pieces:
        if (
            last is not None
            and piece == replace(last, begin=piece.begin, end=piece.end)
            and piece.begin <= last.end
        ):
            # It may lie within the last one, as the single moment of a point does.
            last = replace(last, end=max(last.end, piece.end))
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last
