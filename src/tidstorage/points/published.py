"""What a journal says of the points that were published, however many there are.

A daemon publishes for years, up to several points a second: lines are looked at, and
only the few that are asked for are parsed.
"""

import datetime
import io
import re
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tidstorage.coherence.point import Point
from tidstorage.errors import FileUnreadable
from tidstorage.points import journal
from tidstorage.points.entries import Floor, Published

_POINT = re.compile(
    rb'\{"kind": "point", "version": 1, "id": "[^"]*", "timeline": (\d+),'
    rb' "time": "[^"]*", "source": "(\w+)", "verified": (true|false), "vector": '
)
_FLOOR = b'{"kind": "floor"'
_UNDAMAGED = b'"damage": []}\n'
#: (timeline, verified, damaged) of a point.
_Traits = tuple[int, bool, bool]


@dataclass(frozen=True, slots=True)
class PointSeries:
    """Points of one timeline, one after the other, all verified or none, all with
    damage or none.

    first, last: the oldest and the newest of them.
    """

    timeline: int
    verified: bool
    damaged: bool
    first: Point
    last: Point


@dataclass(frozen=True, slots=True)
class PublishedPoints:
    """The points of a journal: where each is, and the few that were asked for.

    series: all points, oldest first.  newest: the last points, oldest first.
    number: of all points.
    """

    series: Sequence[PointSeries]
    newest: Sequence[Point]
    number: int
    _path: Path
    #: {timeline: bytes from the journal's start to the line of each of its points}.
    _positions: "Mapping[int, array[int]]" = field(default_factory=dict)
    #: The same, of verified points without damage.
    _sound: "Mapping[int, array[int]]" = field(default_factory=dict)

    def timelines(self) -> Collection[int]:
        """The numbers of all timelines that have points here."""
        return self._positions.keys()

    def first(self, timeline: int, condition: Callable[[Point], bool]) -> Point | None:
        """The first point of a timeline that meets the condition; None: none does.

        Found by halves: all points after it have to meet the condition too.
        """
        return next(self._from(self._positions, timeline, condition), None)

    def after(self, timeline: int, moment: datetime.datetime) -> Iterator[Point]:
        """Verified points without damage after that moment, oldest first."""
        return self._from(self._sound, timeline, lambda point: point.time > moment)

    def before(self, timeline: int, moment: datetime.datetime) -> Iterator[Point]:
        """Verified points without damage up to that moment, newest first."""
        with self._open() as stream:
            positions = self._sound.get(timeline, ())
            end = self._search(stream, positions, lambda point: point.time > moment)
            for position in reversed(positions[:end]):
                yield self._at(stream, position)

    def _from(
        self,
        of_timelines: "Mapping[int, array[int]]",
        timeline: int,
        condition: Callable[[Point], bool],
    ) -> Iterator[Point]:
        with self._open() as stream:
            positions = of_timelines.get(timeline, ())
            for position in positions[self._search(stream, positions, condition) :]:
                yield self._at(stream, position)

    def _open(self) -> BinaryIO:
        """The journal, or nothing where there is none yet."""
        return self._path.open("rb") if self._positions else io.BytesIO()

    def _search(
        self,
        stream: BinaryIO,
        positions: Sequence[int],
        condition: Callable[[Point], bool],
    ) -> int:
        return bisect_left(
            positions, True, key=lambda at: condition(self._at(stream, at))
        )

    def _at(self, stream: BinaryIO, position: int) -> Point:
        stream.seek(position)
        return _parse_point(self._path, stream.readline())


#: What is known where there is no journal, or none that can be read.
NOTHING = PublishedPoints((), (), 0, Path())


def read(path: Path, limit: int | None) -> PublishedPoints:
    """The newest ``limit`` points (None: all) and the series of all there are.

    Points of wire-only ids are left out; floors are points.  Nothing where there is
    no journal yet.

    Raises: FileUnreadable: where the journal is broken.
    """
    newest: deque[bytes] = deque(maxlen=limit)
    series: list[tuple[_Traits, bytes, bytes]] = []
    positions: dict[int, array[int]] = {}
    sound: dict[int, array[int]] = {}
    number, position = 0, 0
    for line in journal.read_whole_lines(path):
        start, position = position, position + len(line)
        traits = _find_traits(path, line)
        if traits is None:
            continue
        timeline, verified, damaged = traits
        newest.append(line)
        number += 1
        positions.setdefault(timeline, array("Q")).append(start)
        if verified and not damaged:
            sound.setdefault(timeline, array("Q")).append(start)
        if series and series[-1][0] == traits:
            series[-1] = (traits, series[-1][1], line)
        else:
            series.append((traits, line, line))
    return PublishedPoints(
        [
            PointSeries(*traits, _parse_point(path, first), _parse_point(path, last))
            for traits, first, last in series
        ],
        [_parse_point(path, line) for line in newest],
        number,
        path,
        positions,
        sound,
    )


def _find_traits(path: Path, line: bytes) -> _Traits | None:
    """What a line tells of its point; None for anything else.

    Without parsing, where the line is as the daemon writes it.
    """
    match = _POINT.match(line)
    if match is not None:
        timeline, source, verified = match.groups()
        if source == b"wire":
            return None
        return int(timeline), verified == b"true", not line.endswith(_UNDAMAGED)
    if not line.startswith((journal.POINT, _FLOOR)):
        return None
    point = _parse_point(path, line)
    if point.source == "wire":
        return None
    return point.timeline, point.verified, bool(point.damage)


def _parse_point(path: Path, line: bytes) -> Point:
    entry = journal.parse_line(path, line)
    if not isinstance(entry, Published | Floor):
        raise FileUnreadable(f"{path}: not a point: {line[:80]!r}")
    return entry.point
