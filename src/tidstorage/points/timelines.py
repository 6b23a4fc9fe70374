"""Which timelines there have been, wherever something of them is left."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import point
from tidstorage.errors import EngineFailed, FileUnreadable
from tidstorage.points import journal
from tidstorage.points.journal import Floor, Published, Timeline
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
            known.append(point.read(point.beside(path)).timeline)
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
