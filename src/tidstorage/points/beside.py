"""The points that lie beside the files: ``<Data.fs>.point``, one a storage."""

from collections.abc import Iterable
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.errors import FileUnreadable
from tidstorage.sets.stored import PointShape
from tidstorage.system import json_file

POINT_SUFFIX = ".point"


def read_point(path: Path) -> Point:
    """The point in a file.

    Raises: FileUnreadable: where there is no file, or something else in it.
    """
    return json_file.read(path, PointShape, "a coherency point").point


def point_path(data_file: Path) -> Path:
    """Where the point of a Data.fs is kept."""
    return data_file.with_name(data_file.name + POINT_SUFFIX)


def write_beside(point: Point, data_files: Iterable[Path]) -> None:
    """Keep the point beside each file, durably.

    Raises: OSError: where a file cannot be written.
    """
    data = point.to_json()
    paths = [point_path(data_file) for data_file in data_files]
    # First where there is none: were that interrupted after the others, a new point
    # would name a storage that was just added, and the storage have none.
    for path in sorted(paths, key=Path.exists):
        json_file.write(path, data)


def newest_point(cluster: Cluster) -> Point | None:
    """The newest of the points beside the data files; None where there is none.

    Each of them is a whole coherent cut; they differ only where writing them
    was interrupted.

    Raises: FileUnreadable: where all that there are are broken.
    """
    points: list[Point] = []
    broken: list[FileUnreadable] = []
    for storage in cluster.storages:
        path = point_path(storage.data_file)
        if path.exists():
            try:
                points.append(read_point(path))
            except FileUnreadable as error:
                broken.append(error)
    if broken and not points:
        raise FileUnreadable(
            str(broken[0]),
            f"Move every *{POINT_SUFFIX} away: the next backup writes them anew.",
        )
    newest: Point | None = None
    for point in points:
        if newest is None or point.follows(newest):
            newest = point
    return newest
