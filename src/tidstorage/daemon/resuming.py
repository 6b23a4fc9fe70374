"""Where a daemon goes on after a restart: what its files say of the last run."""

import contextlib
import datetime
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tidstorage.coherence.point import Point
from tidstorage.daemon.settings import ObservedStorage, Settings
from tidstorage.errors import FileUnreadable
from tidstorage.points import floors, journal, published, tid_log
from tidstorage.points.beside import point_path, read_point
from tidstorage.points.entries import (
    Acknowledgement,
    Floor,
    Published,
    Struck,
    Timeline,
    WritersSeen,
)
from tidstorage.points.held import find_newest_held
from tidstorage.system import clock

logger = logging.getLogger(__name__)

_LONGEST_LINE = 1 << 20
#: Of the journal, looked through for one that files still hold.
_FORMER_POINTS = 10_000
_OTHERS = (b'{"kind": "acknowledgement"', b'{"kind": "floor"', b'{"kind": "struck"')


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the last run has left on disk; without anything, a new start.

    timeline: the highest number known.
    recorded_timeline: that of the newest point on disk, 0 where there is none.
    point: the last one published, for just the storages that are observed now; None
        where there is none to go on from.
    followed: the last one that was published from the records themselves: each TID in
        it is one of a record.  Another point may have what a server named.
    acknowledged: commit ids of half commits that somebody has accepted, or that proved
        to be none.
    writers: the newest entry about writers.
    journal_read: bytes of the journal that all this was read from, at least.
    timeline_begun: when the timeline began, at the latest; None for the first one.
    """

    timeline: int = 1
    recorded_timeline: int = 0
    point: Point | None = None
    followed: Point | None = None
    acknowledged: frozenset[bytes] = field(default=frozenset())
    writers: WritersSeen | None = None
    journal_read: int = 0
    timeline_begun: datetime.datetime | None = None


def read_last_run(settings: Settings) -> LastRun:
    """Read the journal, the TID log, and the points beside the files.

    Raises: FileUnreadable: where a journal or TID log is broken.
    """
    last: Point | None = None
    newest: Point | None = None
    timeline = 1
    begun: datetime.datetime | None = None
    acknowledged: set[bytes] = set()
    writers: WritersSeen | None = None
    # Before reading: what others write meanwhile is better read twice than never.
    position = _end_of_lines(settings.journal)
    if settings.journal is not None and settings.journal.exists():
        for entry in journal.read_but_old_points(settings.journal):
            match entry:
                case Published(point) if point.timeline >= timeline:
                    begun = point.time if point.timeline > timeline else begun
                    last = newest = point
                    timeline = point.timeline
                case Timeline(number=number, time=time):
                    last = None
                    begun = time if number > timeline else begun
                    timeline = max(timeline, number)
                case Acknowledgement(commit_id=commit_id) | Struck(commit_id=commit_id):
                    acknowledged.add(commit_id)
                case WritersSeen():
                    writers = entry
                case Floor(point=point) if point.timeline >= timeline and (
                    last is None or _is_above(point, last)
                ):
                    # It is published now, and times never go back.
                    time = point.time if last is None else max(point.time, last.time)
                    last = replace(point, time=time)
                    timeline = point.timeline
        if last is not None and last is newest:
            last = _newest(last, settings)
    elif settings.tid_log is not None and settings.tid_log.exists():
        vector = tid_log.read_last(settings.tid_log)
        last = Point(vector, clock.now(), "stamps", verified=False)
    beside = timeline_beside(settings.storages)
    if beside > timeline:
        # Files were swapped while no daemon ran.
        last, timeline = None, beside
        begun = _begun_beside(settings.storages, beside)
    return LastRun(
        timeline,
        0 if newest is None else newest.timeline,
        _highest(
            of_storages(last, settings.storages), point_beside(settings, timeline)
        ),
        last if last is not None and last.source == "stamps" else None,
        frozenset(acknowledged),
        writers,
        position,
        begun,
    )


def _end_of_lines(path: Path | None) -> int:
    """Where the last whole line of a journal ends; 0 where that is far from the end."""
    try:
        if path is None:
            return 0
        with path.open("rb") as stream:
            start = max(0, stream.seek(0, os.SEEK_END) - _LONGEST_LINE)
            stream.seek(start)
            whole = stream.read().rfind(b"\n") + 1
            return start + whole if whole else 0
    except OSError:
        # None yet; whatever else it is, reading tells.
        return 0


def _newest(last: Point, settings: Settings) -> Point:
    """The last point of the journal, moved on to the newest vector published.

    The journal leaves points out that are like the one before in all else.
    """
    if settings.tid_log is None or not settings.tid_log.exists():
        return last
    state = tid_log.read_last_state(settings.tid_log)
    # A log that is older, or below, is of another timeline.
    if last.source != "stamps" or state.time <= last.time.timestamp():
        return last
    moved = replace(last, vector={**last.vector, **state.vector})
    if not _is_above(moved, last):
        return last
    return replace(
        moved, time=datetime.datetime.fromtimestamp(state.time, datetime.UTC)
    )


def timeline_beside(storages: Iterable[ObservedStorage]) -> int:
    """The highest timeline of the points beside the files on this machine."""
    known = [0]
    for storage in storages:
        if storage.data_file is not None:
            try:
                known.append(read_point(point_path(storage.data_file)).timeline)
            except FileUnreadable:
                # None yet, or not for us to read.
                continue
    return max(known)


def _begun_beside(
    storages: Iterable[ObservedStorage], timeline: int
) -> datetime.datetime:
    """When a timeline began, at the latest, by the points beside the files."""
    times = [clock.now()]
    for storage in storages:
        if storage.data_file is not None:
            with contextlib.suppress(FileUnreadable):
                point = read_point(point_path(storage.data_file))
                if point.timeline == timeline:
                    times.append(point.time)
    return min(times)


def find_held(settings: Settings, timeline: int) -> Point | None:
    """The newest point of former timelines that all files still hold, as of this one.

    Where files were put back by others, examination goes on from there.  None: there is
    none, or not all files are on this machine.
    """
    files = {storage.id: storage.data_file for storage in settings.storages}
    local = {name: path for name, path in files.items() if path is not None}
    if settings.journal is None or len(local) < len(files):
        return None
    try:
        former = published.read(settings.journal, _FORMER_POINTS).newest
        held = find_newest_held(
            (point for point in former if point.timeline < timeline), local
        )
    except FileUnreadable as error:
        logger.warning("%s", error)
        return None
    if held is None:
        return None
    return replace(held, time=clock.now(), source="restore", timeline=timeline)


def point_beside(settings: Settings, timeline: int) -> Point | None:
    """The point beside the files on this machine; None if of another timeline.

    A new timeline goes on from it, and not from a barrier: nobody has examined yet
    what is above it, and a barrier would hide the half commits there.
    """
    paths = {storage.id: storage.data_file for storage in settings.storages}
    known = {storage: path for storage, path in paths.items() if path is not None}
    beside = floors.point_beside(known, settings.names)
    if beside is None or beside.timeline != timeline:
        return None
    names = settings.names
    vector = {names.get(name, name): last for name, last in beside.vector.items()}
    return of_storages(replace(beside, vector=vector), settings.storages)


def _highest(last: Point | None, beside: Point | None) -> Point | None:
    """What both cover together; None without either.

    A pack leaves a point beside the files that may be above the last one published: it
    stays below that one, and what it took above the other would seem to be missing.
    Where each covers something that the other does not, the greater of the two in each
    storage is a coherent cut as well (`tidstorage.coherence.cut`).
    """
    if last is None or beside is None or _is_above(last, beside):
        return last or beside
    if _is_above(beside, last):
        # The damage of the last one stays named until somebody accepts it.
        vector, verified = beside.vector, beside.verified
    else:
        vector = {
            storage: max(tid, beside.vector[storage])
            for storage, tid in last.vector.items()
        }
        verified = last.verified and beside.verified
    damage = {half.commit_id: half for half in (*beside.damage, *last.damage)}
    # It is published now, and times never go back.
    return Point(
        vector,
        max(last.time, beside.time),
        beside.source,
        last.timeline,
        verified,
        tuple(damage.values()),
    )


def _is_above(new: Point, old: Point) -> bool:
    """Whether one point covers all that another does: never go back."""
    return all(
        new.vector.get(storage, 0) >= last for storage, last in old.vector.items()
    )


def of_storages(
    last: Point | None, storages: Iterable[ObservedStorage]
) -> Point | None:
    """The point for these storages alone; None where it lacks one of them.

    A point without one of them is none to go on from: it has to be a coherent cut.
    """
    ids = [storage.id for storage in storages]
    if last is None or any(storage not in last.vector for storage in ids):
        return None
    return Point(
        {storage: last.vector[storage] for storage in ids},
        last.time,
        last.source,
        last.timeline,
        last.verified,
        last.damage,
    )


class EntriesOfOthers:
    """What others write into the journal while the daemon runs.

    These are acknowledgements, floors, and what they strike out: the daemon itself
    writes none of them.
    read: how many bytes of the journal were read before.
    """

    def __init__(self, path: Path | None, read: int) -> None:
        self._path = path
        self._position = read

    def _size(self) -> int:
        try:
            return 0 if self._path is None else self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def read_new(self) -> list[Acknowledgement | Floor | Struck]:
        """Those written since the last call; a broken one is logged, and left out."""
        size = self._size()
        if size < self._position:
            # It was moved away, and another is there by now.
            self._position = 0
        if self._path is None or size == self._position:
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._position)
            data = stream.read(size - self._position)
        whole = data.rfind(b"\n") + 1
        self._position += whole
        entries: list[Acknowledgement | Floor | Struck] = []
        for line in data[:whole].splitlines():
            if line.startswith(_OTHERS):
                try:
                    entry = journal.parse_line(self._path, line)
                except FileUnreadable as error:
                    logger.error("%s", error)
                    continue
                if isinstance(entry, Acknowledgement | Floor | Struck):
                    entries.append(entry)
        return entries
