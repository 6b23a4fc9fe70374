"""What a journal says of the points that were published, however many there are.

A daemon publishes for years, up to several points a second: lines are looked at, and
only the few that are asked for are parsed.
"""

import datetime
import io
import re
from array import array
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from tidstorage.coherence.point import Point
from tidstorage.errors import FileUnreadable
from tidstorage.points import journal
from tidstorage.points.entries import Floor, Published

_POINT = re.compile(
    rb'\{"kind": "point", "version": 1, "id": "[^"]*", "timeline": (\d+),'
    rb' "time": "([^"]*)", "source": "(\w+)", "verified": (true|false), "vector": '
)
_TIME = re.compile(rb'"time": "([^"]*)"')
_FLOOR = b'{"kind": "floor"'
_UNDAMAGED = b'"damage": []}\n'
_BARRIER = b'"source": "barrier"'
_SKEW = b'"skew": {'
#: (timeline, verified, damaged) of a point.
_Traits = tuple[int, bool, bool]
#: The time of a point as its line has it: in UTC, so that one text is less than
#: another where the one time is before the other.
_TimeText = bytes


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


@dataclass(slots=True)
class _Lines:
    """Where points are: bytes from the journal's start to the line of each.

    Their times go up, but for where the clock was set back: there another run begins.
    """

    at: "array[int]" = field(default_factory=lambda: array("Q"))
    _begins: list[int] = field(default_factory=list)
    _last: _TimeText = b""

    def add(self, position: int, time: _TimeText) -> None:
        if not self._begins or time < self._last:
            self._begins.append(len(self.at))
        self._last = time
        self.at.append(position)

    def runs(self) -> Iterator[tuple[int, int]]:
        """(begin, end) of each row of points whose times go up."""
        return pairwise([*self._begins, len(self.at)])


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
    #: {timeline: all its points}.
    _all: "Mapping[int, _Lines]" = field(default_factory=dict)
    #: The same, of verified points without damage.
    _sound: "Mapping[int, _Lines]" = field(default_factory=dict)
    #: The same, of barriers that tell of the servers' clocks.
    _measured: "Mapping[int, _Lines]" = field(default_factory=dict)

    def timelines(self) -> Collection[int]:
        """The numbers of all timelines that have points here."""
        return self._all.keys()

    def first(self, timeline: int, condition: Callable[[Point], bool]) -> Point | None:
        """The first point of a timeline that meets the condition; None: none does.

        Found by halves: all points after it have to meet the condition too.
        """
        with self._open() as stream:
            at = self._all.get(timeline, _NO_LINES).at
            found = bisect_left(
                at, True, key=lambda position: condition(self._at(stream, position))
            )
            return self._at(stream, at[found]) if found < len(at) else None

    def by_id(
        self, point_id: str, timeline: int, time: datetime.datetime
    ) -> Point | None:
        """The point of that id, timeline and time; None where there is none."""
        with self._open() as stream:
            lines = self._all.get(timeline, _NO_LINES)
            for begin, end in lines.runs():
                before = time - datetime.timedelta.resolution
                found = self._count(stream, lines.at, begin, end, before)
                if found < end:
                    point = self._at(stream, lines.at[found])
                    if point.id == point_id:
                        return point
        return None

    def after(self, timeline: int, moment: datetime.datetime) -> Iterator[Point]:
        """Verified points without damage after that moment, oldest first.

        And after every point before it, where the clock of their times was set back.
        """
        with self._open() as stream:
            lines = self._sound.get(timeline, _NO_LINES)
            _, begin = self._between(stream, lines, moment)
            for position in lines.at[begin:]:
                yield self._at(stream, position)

    def before(self, timeline: int, moment: datetime.datetime) -> Iterator[Point]:
        """Verified points without damage up to that moment, newest first.

        And before every point after it, where the clock was set back.
        """
        with self._open() as stream:
            lines = self._sound.get(timeline, _NO_LINES)
            end, _ = self._between(stream, lines, moment)
            for position in reversed(lines.at[:end]):
                yield self._at(stream, position)

    def measured(self, timeline: int) -> Iterator[Point]:
        """Barriers of a timeline that tell of the servers' clocks, oldest first."""
        with self._open() as stream:
            for position in self._measured.get(timeline, _NO_LINES).at:
                yield self._at(stream, position)

    def _open(self) -> BinaryIO:
        """The journal, or nothing where there is none yet."""
        return self._path.open("rb") if self._all else io.BytesIO()

    def _between(
        self, stream: BinaryIO, lines: "_Lines", moment: datetime.datetime
    ) -> tuple[int, int]:
        """How many points come before the first one after a moment, and up to the last
        one that is not after it.

        The same, unless a clock was set back: what is between the two is of either.
        """
        first_after, last_before = len(lines.at), 0
        for begin, end in lines.runs():
            found = self._count(stream, lines.at, begin, end, moment)
            if found < end:
                first_after = min(first_after, found)
            if found > begin:
                last_before = found
        return min(first_after, last_before), last_before

    def _count(
        self,
        stream: BinaryIO,
        positions: Sequence[int],
        begin: int,
        end: int,
        moment: datetime.datetime,
    ) -> int:
        """Where in a run the first point after a moment is; its end: there is none."""
        text = moment.astimezone(datetime.UTC).isoformat().encode()

        def is_after(position: int) -> bool:
            stream.seek(position)
            return _find_time(self._path, stream.readline()) > text

        return bisect_left(positions, True, begin, end, key=is_after)

    def _at(self, stream: BinaryIO, position: int) -> Point:
        stream.seek(position)
        return _parse_point(self._path, stream.readline())


_NO_LINES = _Lines()

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
    of_all: defaultdict[int, _Lines] = defaultdict(_Lines)
    sound: defaultdict[int, _Lines] = defaultdict(_Lines)
    measured: defaultdict[int, _Lines] = defaultdict(_Lines)
    number, position = 0, 0
    for line in journal.read_whole_lines(path):
        start, position = position, position + len(line)
        found = _find_traits(path, line)
        if found is None:
            continue
        traits, time = found
        timeline, verified, damaged = traits
        newest.append(line)
        number += 1
        of_all[timeline].add(start, time)
        if verified and not damaged:
            sound[timeline].add(start, time)
        if _BARRIER in line and _SKEW in line:
            measured[timeline].add(start, time)
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
        of_all,
        sound,
        measured,
    )


def _find_time(path: Path, line: bytes) -> _TimeText:
    match = _TIME.search(line)
    if match is None:
        raise FileUnreadable(f"{path}: not a point: {line[:80]!r}")
    return match[1]


def _find_traits(path: Path, line: bytes) -> tuple[_Traits, _TimeText] | None:
    """What a line tells of its point, and its time; None for anything else.

    Without parsing, where the line is as the daemon writes it.
    """
    match = _POINT.match(line)
    if match is not None:
        timeline, time, source, verified = match.groups()
        if source == b"wire":
            return None
        damaged = not line.endswith(_UNDAMAGED)
        return (int(timeline), verified == b"true", damaged), time
    if not line.startswith((journal.POINT, _FLOOR)):
        return None
    point = _parse_point(path, line)
    if point.source == "wire":
        return None
    time = point.time.isoformat().encode()
    return (point.timeline, point.verified, bool(point.damage)), time


def _parse_point(path: Path, line: bytes) -> Point:
    entry = journal.parse_line(path, line)
    if not isinstance(entry, Published | Floor):
        raise FileUnreadable(f"{path}: not a point: {line[:80]!r}")
    return entry.point
