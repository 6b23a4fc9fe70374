"""Which timelines there have been, wherever something of them is left.

Three questions that differ in whom they believe:

- `timeline_beside`: which one are the files of?  Only the points beside them tell.
- `known_timeline`: which one is the cluster in?  The journal tells too: of a restore
  whose points beside the files are lost.  A broken witness is an error, since what is
  written next goes by the answer.
- `highest`: which numbers must a restore not use again?  Sets tell too, and a broken
  witness is passed over: a restore must go on without it.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import FileUnreadable
from tidstorage.points.beside import point_path, read_point
from tidstorage.points.entries import Floor, Published, Timeline
from tidstorage.points.journal import read_but_old_points
from tidstorage.points.summary import JournalSummary, summarise


def highest(
    data_files: Iterable[Path], journal: Path | None, of_sets: Iterable[int] = ()
) -> int:
    """The highest number that is known of, 0 where none is.

    journal: None where there is no cluster.  of_sets: those of the backup sets.

    A restore takes the next one.  The points beside the files do not suffice,
    since they are lost with the files' disk; a number that was used before would
    make the daemon go on where the lost history ended, and the next backup with
    the blobs of that.
    """
    known = [0, *of_sets]
    for data_file in data_files:
        # Lost or broken with the file it lay beside: no obstacle now.
        with contextlib.suppress(FileUnreadable):
            known.append(read_point(point_path(data_file)).timeline)
    if journal is not None:
        # What stands before a broken line counts all the same.
        with contextlib.suppress(FileUnreadable):
            known += _read_timelines(journal)
    return max(known)


def _read_timelines(journal: Path) -> Iterator[int]:
    for entry in read_but_old_points(journal):
        match entry:
            case Published(point) | Floor(point=point):
                yield point.timeline
            case Timeline(number=number):
                yield number


def known_timeline(cluster: Cluster, journal: JournalSummary | None = None) -> int:
    """The one the cluster is in: the highest in journal and points beside the files.

    At least 1.  journal: what it says, where that has been read already.

    Raises: FileUnreadable: where a point or the journal is broken.
    """
    if journal is None:
        journal = summarise(cluster.daemon.journal)
    return max(timeline_beside(cluster), journal.timeline)


def timeline_beside(cluster: Cluster) -> int:
    """The one the files are of: the highest of the points beside them, at least 1.

    Raises: FileUnreadable: where a point is broken.
    """
    known = [1]
    for storage in cluster.storages:
        path = point_path(storage.data_file)
        if path.exists():
            known.append(read_point(path).timeline)
    return max(known)
