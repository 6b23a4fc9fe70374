"""Which moments can be had back, and which cannot: points, and stretches of time.

A stretch lies between points of one timeline.  Any moment in it can be restored
where all its writers left stamps, and where the live files, or a set and the one
before it that it goes on from, still hold what was there.
"""

import datetime
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tidstorage import acceptance, damages, published
from tidstorage.backup import prepare, sets
from tidstorage.cluster import Cluster
from tidstorage.engines import filestorage
from tidstorage.errors import FileUnreadable
from tidstorage.manifest import Manifest
from tidstorage.point import HalfCommit, Point
from tidstorage.published import PublishedPoints, Run

LIVE = "live files"
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


@dataclass(frozen=True, slots=True)
class _Source:
    """Holds all between two moments of one timeline."""

    name: str
    timeline: int
    begin: datetime.datetime
    end: datetime.datetime

    def covers(self, stretch: Stretch) -> bool:
        return (
            self.timeline == stretch.timeline
            and self.begin <= stretch.begin
            and stretch.end <= self.end
        )


def reach(cluster: Cluster, limit: int | None = 20) -> Reach:
    """The newest ``limit`` points (None: all), and every stretch.

    FileUnreadable where the journal is broken; what a set lacks is no error.
    """
    found = published.read(cluster.daemon.journal, limit)
    accepted = acceptance.acknowledgements(cluster).keys()
    made = [
        each.manifest
        for each in reversed(sets.every(cluster.backup.directory))
        if each.is_whole
    ]
    beside = prepare.newest_point(cluster)
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
    timeline = damages.timeline(cluster)
    points = [*others, *(each.floor for each in made if each.floor is not None)]
    sources = [
        *_live(cluster, found, others, timeline),
        *_chains(cluster, found, points, made),
    ]
    known = [*_of_runs(found.runs, accepted)]
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
    return _Source("", other.timeline, other.begin, other.end).covers(one)


def _live(
    cluster: Cluster,
    found: PublishedPoints,
    others: Sequence[Point],
    timeline: int,
) -> Iterator[_Source]:
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

    ends = [run.last for run in found.runs if run.timeline == timeline]
    begins = [found.first(timeline, is_above)]
    begins += [each for each in others if each.timeline == timeline and is_above(each)]
    possible = [each for each in begins if each is not None]
    if possible:
        yield _Source(
            LIVE,
            timeline,
            min(each.time for each in possible),
            max(each.time for each in possible + ends),
        )


def _chains(
    cluster: Cluster,
    found: PublishedPoints,
    points: Sequence[Point],
    made: Sequence[Manifest],
) -> list[_Source]:
    """Sets that each go on from the one before, oldest first.

    The first one of them holds all since its last pack.
    """
    chains: list[_Source] = []
    for before, each in zip([None, *made], made, strict=False):
        at, timeline = each.point.time, each.point.timeline
        if before is not None and _goes_on(before, each):
            begin = chains.pop().begin
        else:
            begin = min(at, *_held_since(cluster, found, points, each))
        chains.append(_Source(f"set {each.id}", timeline, begin, at))
    return chains


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


def _of_runs(runs: Sequence[Run], accepted: Collection[bytes]) -> Iterator[Stretch]:
    """The journal's points, and what is between them."""
    before: Run | None = None
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
    stretch: Stretch, others: Sequence[_Source] | Sequence[Stretch]
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


def _sourced(piece: Stretch, sources: Sequence[_Source], timeline: int) -> Stretch:
    if piece.reason:
        return piece
    names = tuple(each.name for each in sources if each.covers(piece))
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
