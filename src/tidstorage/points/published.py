"""What a journal tells of the points that were published, however many there are.

A daemon publishes for years, up to several points a second: lines are looked at, not
parsed, except the few that are asked for.
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
_Kind = tuple[int, bool, bool]


@dataclass(frozen=True, slots=True)
class Run:
    """Points in a row of one timeline that are alike.

    verified, damaged: whether all are, or none is.  first, last: the outermost.
    """

    timeline: int
    verified: bool
    damaged: bool
    first: Point
    last: Point


@dataclass(frozen=True, slots=True)
class PublishedPoints:
    """runs: oldest first.  newest: the last points, oldest first.  number: of all.

    Of each timeline it is known where in the journal its points are.
    """

    runs: Sequence[Run]
    newest: Sequence[Point]
    number: int
    _path: Path
    _positions: "Mapping[int, array[int]]" = field(default_factory=dict)
    _sound: "Mapping[int, array[int]]" = field(default_factory=dict)

    def timelines(self) -> Collection[int]:
        """The numbers of all that have points here."""
        return self._positions.keys()

    def first(self, timeline: int, condition: Callable[[Point], bool]) -> Point | None:
        """The first point of a timeline that meets the condition.

        All after it have to meet it too.  None where none does.
        """
        return next(self._from(self._positions, timeline, condition), None)

    def after(self, timeline: int, moment: datetime.datetime) -> Iterator[Point]:
        """Verified points without damage since then, oldest first."""
        return self._from(self._sound, timeline, lambda each: each.time > moment)

    def before(self, timeline: int, moment: datetime.datetime) -> Iterator[Point]:
        """Verified points without damage up to then, newest first."""
        with self._open() as stream:
            positions = self._sound.get(timeline, ())
            end = self._search(stream, positions, lambda each: each.time > moment)
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
        return _point(self._path, stream.readline())


#: What a journal tells that is not there, or cannot be read.
NOTHING = PublishedPoints((), (), 0, Path())


def read(path: Path, limit: int | None) -> PublishedPoints:
    """The newest ``limit`` points (None: all) and the runs of all there are.

    Points of wire-only ids are left out; floors are points.  Nothing where there is
    no journal yet.  FileUnreadable where it is broken.
    """
    newest: deque[bytes] = deque(maxlen=limit)
    runs: list[tuple[_Kind, bytes, bytes]] = []
    positions: dict[int, array[int]] = {}
    sound: dict[int, array[int]] = {}
    number, position = 0, 0
    for line in journal.whole_lines(path):
        start, position = position, position + len(line)
        kind = _kind_of(path, line)
        if kind is None:
            continue
        newest.append(line)
        number += 1
        positions.setdefault(kind[0], array("Q")).append(start)
        if kind[1] and not kind[2]:
            sound.setdefault(kind[0], array("Q")).append(start)
        if runs and runs[-1][0] == kind:
            runs[-1] = (kind, runs[-1][1], line)
        else:
            runs.append((kind, line, line))
    return PublishedPoints(
        [
            Run(*kind, _point(path, first), _point(path, last))
            for kind, first, last in runs
        ],
        [_point(path, line) for line in newest],
        number,
        path,
        positions,
        sound,
    )


def _kind_of(path: Path, line: bytes) -> _Kind | None:
    """(timeline, verified, damaged) of a point; None for anything else."""
    match = _POINT.match(line)
    if match is not None:
        timeline, source, verified = match.groups()
        if source == b"wire":
            return None
        return int(timeline), verified == b"true", not line.endswith(_UNDAMAGED)
    if not line.startswith((journal.POINT, _FLOOR)):
        return None
    found = _point(path, line)
    if found.source == "wire":
        return None
    return found.timeline, found.verified, bool(found.damage)


def _point(path: Path, line: bytes) -> Point:
    entry = journal.parsed(path, line)
    if not isinstance(entry, Published | Floor):
        raise FileUnreadable(f"{path}: not a point: {line[:80]!r}")
    return entry.point
