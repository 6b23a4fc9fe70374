"""The floor above which files are examined: a point, or a TID log's last vector."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tidstorage.cluster.renaming import rename_vector
from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.coherence.tid import Vector
from tidstorage.engines.filestorage import records
from tidstorage.errors import FileUnreadable
from tidstorage.points import tid_log
from tidstorage.points.beside import point_path, read_point


@dataclass(frozen=True, slots=True)
class Floor:
    """A vector to trust, and where it is from, in words.

    damage: half commits that are known, also where what proved it is cut off.
    """

    vector: Vector
    origin: str
    damage: Sequence[HalfCommit] = ()


def choose(
    paths: Mapping[str, Path], given: Path | None, aliases: Mapping[str, str]
) -> Floor:
    """The floor in the file given, else that of the points beside, else none.

    paths: {storage id: its Data.fs}.  aliases: {old storage id: present id}.
    FileUnreadable where ``given`` is neither a point nor a TID log.
    """
    if given is not None:
        return Floor(_read(given, aliases), str(given))
    found = point_beside(paths, aliases)
    if found is None:
        return Floor({}, "nothing: the files are examined from their start")
    vector = rename_vector(found.vector, aliases)
    origin = f"point {found.id} beside the files"
    if added := paths.keys() - vector.keys():
        origin += f"; from their start: {', '.join(sorted(added))}"
    return Floor(vector, origin, found.damage)


def within(found: Point, paths: Mapping[str, Path]) -> Point:
    """The point as one to leave beside the files, which may end before it.

    A server that was killed amid a vote reports that TID as its last one, and no
    file ever holds it: a copy of the files would look too short.  Where a file
    cannot be read, the point tells what it is to hold.
    """
    vector = dict(found.vector)
    for storage in vector.keys() & paths.keys():
        with contextlib.suppress(FileUnreadable):
            vector[storage] = min(vector[storage], records.last_tid(paths[storage]))
    return replace(found, vector=vector)


def _read(path: Path, aliases: Mapping[str, str]) -> dict[str, int]:
    if _is_json(path):
        vector: Vector = read_point(path).vector
    else:
        vector = tid_log.read_last(path)
        if not vector:
            raise FileUnreadable(f"{path} is neither a point nor a TID log with one")
    return rename_vector(vector, aliases)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error
    except ValueError:
        return False
    return True


def point_beside(paths: Mapping[str, Path], aliases: Mapping[str, str]) -> Point | None:
    """The oldest of the points beside the files, where each file has one.

    But for storages that were added since: that point does not name them, and
    nothing at or below it can belong to a transaction of theirs.
    """
    points = []
    without = set()
    for storage, path in paths.items():
        try:
            points.append(read_point(point_path(path)))
        except FileUnreadable:
            without.add(storage)
    oldest = min(points, key=lambda each: (each.timeline, each.time), default=None)
    if oldest is None or without & rename_vector(oldest.vector, aliases).keys():
        return None
    return oldest
