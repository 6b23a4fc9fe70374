"""The floor above which files are examined: a point, or a TID log's last vector."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tidstorage.cluster.renaming import rename_vector
from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.coherence.tid import Vector
from tidstorage.engines.filestorage import last_tid
from tidstorage.errors import FileUnreadable
from tidstorage.points import tid_log
from tidstorage.points.beside import point_path, read_point


@dataclass(frozen=True, slots=True)
class ChosenFloor:
    """The vector above which files are examined.

    vector: {storage id: last TID that is trusted}.  origin: where it is from, in words.
    damage: half commits in it, which stay known where what proved them is cut off.
    """

    vector: Vector
    origin: str
    damage: Sequence[HalfCommit] = ()


def choose(
    paths: Mapping[str, Path], given: Path | None, aliases: Mapping[str, str]
) -> ChosenFloor:
    """The floor in the file given, else that of the points beside, else none.

    paths: {storage id: its Data.fs}.  aliases: {old storage id: present id}.

    Raises: FileUnreadable: where ``given`` is neither a point nor a TID log.
    """
    if given is not None:
        return ChosenFloor(_read(given, aliases), str(given))
    beside = point_beside(paths, aliases)
    if beside is None:
        return ChosenFloor({}, "nothing: the files are examined from their start")
    vector = rename_vector(beside.vector, aliases)
    origin = f"point {beside.id} beside the files"
    if added := paths.keys() - vector.keys():
        origin += f"; from their start: {', '.join(sorted(added))}"
    return ChosenFloor(vector, origin, beside.damage)


def fit_to_files(point: Point, paths: Mapping[str, Path]) -> Point:
    """The point with no TID above the last one that a file holds.

    A server that was killed amid a vote reports that vote's TID as its last one, and
    no file ever holds it: beside a copy of the files, such a point would say that the
    copy is too short.  Where a file cannot be read, its TID stays.
    """
    vector = dict(point.vector)
    for storage in vector.keys() & paths.keys():
        with contextlib.suppress(FileUnreadable):
            vector[storage] = min(vector[storage], last_tid(paths[storage]))
    return replace(point, vector=vector)


def _read(path: Path, aliases: Mapping[str, str]) -> dict[str, int]:
    if _is_json(path):
        vector: Vector = read_point(path).vector
    else:
        vector = tid_log.read_last(path)
        if not vector:
            raise FileUnreadable(f"{path} is neither a point nor a TID log with one")
    return rename_vector(vector, aliases)


def _is_json(path: Path) -> bool:
    """Whether the file is JSON, which no TID log is.

    Raises: FileUnreadable: where it cannot be read.
    """
    try:
        json.loads(path.read_bytes())
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error
    except ValueError:
        return False
    return True


def point_beside(paths: Mapping[str, Path], aliases: Mapping[str, str]) -> Point | None:
    """The oldest of the points beside the files; None unless each file has one.

    A storage that was added since needs none: that point does not name it, and
    nothing at or below the point can belong to a transaction of such a storage.
    """
    points = []
    without = set()
    for storage, path in paths.items():
        try:
            points.append(read_point(point_path(path)))
        except FileUnreadable:
            without.add(storage)
    oldest: Point | None = None
    for point in points:
        if oldest is None or oldest.follows(point):
            oldest = point
    if oldest is None or without & rename_vector(oldest.vector, aliases).keys():
        return None
    return oldest
