"""Which moments can be had back, and which cannot: points, and stretches of time.

A stretch lies between points of one timeline.  Any moment in it can be restored
where all its writers left stamps, and where the live files, or a set and the one
before it that it goes on from, still hold what was there.
"""

import datetime
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.points import accepted as acceptance
from tidstorage.points import published
from tidstorage.points.beside import newest_point
from tidstorage.points.published import PointSeries, PublishedPoints
from tidstorage.points.timelines import known_timeline
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.verbs.moments import sources as holders
from tidstorage.verbs.moments.sources import Source

UNVERIFIED = "writers without stamps: nobody can tell what fits together"
GONE = "neither the live files nor a whole set hold it"
LOST = "of a timeline that was left by a restore, and in no set"


@dataclass(frozen=True, slots=True)
class ListedPoint:
    """sets: ids of the whole sets with just this point.  damage: number of half
    commits inside that nobody has accepted by now."""

    point: Point
    sets: tuple[str, ...]
    damage: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """From point to point; a single moment where begin is end.

    sources: what it can be restored from; none: a gap, and `reason` says why.
    damaged: half commits inside that nobody has accepted by now.
    """

    timeline: int
    begin: datetime.datetime
    end: datetime.datetime
    sources: tuple[str, ...]
    reason: str
    damaged: bool

    @property
    def is_gap(self) -> bool:
        return not self.sources


@dataclass(frozen=True, slots=True)
class Reach:
    """points, stretches: newest first.  number: of all points in the journal and
    of sets."""

    points: Sequence[ListedPoint]
    stretches: Sequence[Stretch]
    number: int


def reach(cluster: Cluster, limit: int | None = 20) -> Reach:
    """The newest ``limit`` points (None: all), and every stretch.

    FileUnreadable where the journal is broken; what a set lacks is no error.
    """
    found = published.read(cluster.daemon.journal, limit)
    accepted = acceptance.acknowledgements(cluster).keys()
    made = [
        each.manifest
        for each in reversed(BackupDirectory(cluster.backup.directory).sets())
        if each.is_whole
    ]
    beside = newest_point(cluster)
    others = [each.point for each in made] + ([beside] if beside else [])
    points = {each.id: each for each in [*found.newest, *others]}
    newest = sorted(
        points.values(), key=lambda each: (each.timeline, each.time), reverse=True
    )[:limit]
    listed = [
        ListedPoint(
            each,
            tuple(one.id for one in made if one.point.id == each.id),
            len(_open_damage(each, accepted)),
        )
        for each in newest
    ]
    return Reach(
        listed,
        _stretches(cluster, found, made, others, accepted),
        max(len(listed), found.number + len({each.point.id for each in made})),
    )


def _open_damage(point: Point, accepted: Collection[bytes]) -> list[HalfCommit]:
    return [half for half in point.damage if half.commit_id not in accepted]


def _stretches(
    cluster: Cluster,
    found: PublishedPoints,
    made: Sequence[Manifest],
    others: Sequence[Point],
    accepted: Collection[bytes],
) -> list[Stretch]:
    timeline = known_timeline(cluster)
    points = [*others, *(each.floor for each in made if each.floor is not None)]
    sources = [
        *holders.live(cluster, found, others, timeline),
        *holders.chains(cluster, found, points, made),
    ]
    known = [*_of_runs(found.series, accepted)]
    known += _of_sets(made, points, known, accepted)
    pieces = [
        _sourced(piece, sources, timeline)
        for stretch in known
        for piece in _split(stretch, sources)
    ]
    ends = {
        (each.timeline, moment): False
        for each in sources
        for moment in (each.begin, each.end)
    }
    damaged = {
        (each.timeline, each.time): bool(_open_damage(each, accepted))
        for each in others
    }
    for (number, at), has_damage in {**ends, **damaged}.items():
        moment = Stretch(number, at, at, (), "", has_damage)
        if not any(piece.sources and _is_in(moment, piece) for piece in pieces):
            pieces.append(_sourced(moment, sources, timeline))
    pieces.sort(key=lambda each: (each.timeline, each.begin, each.end))
    return [*_merged(pieces)][::-1]


def _is_in(one: Stretch, other: Stretch) -> bool:
    whole = Source("", other.timeline, other.begin, other.end)
    return whole.covers(one.timeline, one.begin, one.end)


def _of_runs(
    runs: Sequence[PointSeries], accepted: Collection[bytes]
) -> Iterator[Stretch]:
    """The journal's points, and what is between them."""
    before: PointSeries | None = None
    for run in runs:
        damaged = bool(_open_damage(run.last, accepted))
        begin = run.first
        if before is not None and before.timeline == run.timeline:
            # Up to its first point everything was as it was before.
            verified = before.verified and run.verified
            reason = "" if verified else UNVERIFIED
            yield Stretch(
                run.timeline,
                before.last.time,
                begin.time,
                (),
                reason,
                bool(_open_damage(before.last, accepted)),
            )
        reason = "" if run.verified else UNVERIFIED
        yield Stretch(run.timeline, begin.time, run.last.time, (), reason, damaged)
        before = run


def _of_sets(
    made: Sequence[Manifest],
    points: Sequence[Point],
    known: Sequence[Stretch],
    accepted: Collection[bytes],
) -> Iterator[Stretch]:
    """What lies between points, as far as no journal tells of it (any more)."""
    moments = {(each.timeline, each.time) for each in points}
    moments |= {(each.timeline, at) for each in known for at in (each.begin, each.end)}
    for (timeline, begin), (same, end) in pairwise(sorted(moments)):
        between = Stretch(timeline, begin, end, (), "", False)
        if timeline != same or any(_is_in(between, one) for one in known):
            continue
        # What the first set after it knows of it is all there is to know.
        of_set = next(
            (
                each
                for each in made
                if each.point.timeline == timeline and each.point.time >= end
            ),
            None,
        )
        if of_set is not None:
            unstamped = any(of_set.unstamped.values())
            yield replace(
                between,
                reason=UNVERIFIED if unstamped else "",
                damaged=bool(_open_damage(of_set.point, accepted)),
            )


def _split(
    stretch: Stretch, others: Sequence[Source] | Sequence[Stretch]
) -> Iterator[Stretch]:
    """The stretch in pieces that none of the others covers in part."""
    moments = {
        moment
        for other in others
        if other.timeline == stretch.timeline
        for moment in (other.begin, other.end)
        if stretch.begin < moment < stretch.end
    }
    if stretch.begin == stretch.end:
        yield stretch
        return
    for begin, end in pairwise(sorted({stretch.begin, *moments, stretch.end})):
        yield replace(stretch, begin=begin, end=end)


def _covers(source: Source, piece: Stretch) -> bool:
    return source.covers(piece.timeline, piece.begin, piece.end)


def _sourced(piece: Stretch, sources: Sequence[Source], timeline: int) -> Stretch:
    if piece.reason:
        return piece
    names = tuple(each.name for each in sources if _covers(each, piece))
    if names:
        return replace(piece, sources=names)
    return replace(piece, reason=LOST if piece.timeline < timeline else GONE)


def _merged(pieces: Sequence[Stretch]) -> Iterator[Stretch]:
    """Neighbours that are alike become one."""
    last: Stretch | None = None
    for piece in pieces:
        if (
            last is not None
            and piece == replace(last, begin=piece.begin, end=piece.end)
            and piece.begin <= last.end
        ):
            last = replace(last, end=max(last.end, piece.end))
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last
