"""Which timelines there have been, wherever something of them is left."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import (
    EngineFailed,
    FileUnreadable,
)
from tidstorage.points import journal
from tidstorage.points.beside import point_path, read_point
from tidstorage.points.entries import (
    Floor,
    Published,
    Timeline,
)
from tidstorage.sets import listing


def highest(data_files: Iterable[Path], cluster: Cluster | None) -> int:
    """The highest number that is known of, 0 where none is.

    A restore takes the next one.  The points beside the files do not suffice,
    since they are lost with the files' disk; a number that was used before would
    make the daemon go on where the lost history ended, and the next backup with
    the blobs of that.
    """
    known = [0]
    for path in data_files:
        # Lost or broken with the file it lay beside: no obstacle now.
        with contextlib.suppress(FileUnreadable):
            known.append(read_point(point_path(path)).timeline)
    if cluster is not None:
        with contextlib.suppress(EngineFailed, OSError):
            known += [
                each.point.timeline
                for each in listing.manifests(cluster.backup.directory)[0]
            ]
        with contextlib.suppress(FileUnreadable):
            known += _of_journal(cluster.daemon.journal)
    return max(known)


def _of_journal(path: Path) -> Iterator[int]:
    for entry in journal.read_but_old_points(path):
        match entry:
            case Published(found) | Floor(found, _):
                yield found.timeline
            case Timeline(_, number, _, _):
                yield number


def known_timeline(cluster: Cluster) -> int:
    """The highest one that journal and points beside the files know of."""
    return max([timeline_beside(cluster), *_of_journal(cluster.daemon.journal)])


def timeline_beside(cluster: Cluster) -> int:
    """The highest one of the points beside the files, at least 1."""
    known = [1]
    for storage in cluster.storages:
        path = point_path(storage.data_file)
        if path.exists():
            known.append(read_point(path).timeline)
    return max(known)
