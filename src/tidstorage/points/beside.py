"""The points that lie beside the files: ``<Data.fs>.point``, one a storage."""

import json
from collections.abc import Iterable
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.errors import FileUnreadable
from tidstorage.system import durable

POINT_SUFFIX = ".point"


def read_point(path: Path) -> Point:
    """The point in a file; FileUnreadable where there is none."""
    try:
        return Point.from_json(json.loads(path.read_text()))
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileUnreadable(f"{path} is not a coherency point: {error}") from error


def point_path(data_file: Path) -> Path:
    """Where the point of a Data.fs is kept."""
    return data_file.with_name(data_file.name + POINT_SUFFIX)


def write_beside(point: Point, data_files: Iterable[Path]) -> None:
    """Keep the point beside each file, durably; OSError where that fails.

    First where there is none: were that interrupted after the others, a new point
    would name a storage that was just added, and the storage have none.
    """
    text = json.dumps(point.to_json(), indent=1) + "\n"
    for data_file in sorted(data_files, key=lambda each: point_path(each).exists()):
        durable.replace_text(point_path(data_file), text)


def newest_point(cluster: Cluster) -> Point | None:
    """The newest of the points beside the data files.

    Each of them is a whole coherent cut; they differ only where writing them
    was interrupted.  FileUnreadable where all of them are broken.
    """
    found: list[Point] = []
    broken: list[FileUnreadable] = []
    for storage in cluster.storages:
        path = point_path(storage.data_file)
        if path.exists():
            try:
                found.append(read_point(path))
            except FileUnreadable as error:
                broken.append(error)
    if broken and not found:
        raise FileUnreadable(
            str(broken[0]),
            f"Move every *{POINT_SUFFIX} away: the next backup writes them anew.",
        )
    return max(found, key=lambda each: (each.timeline, each.time), default=None)
