"""Restores that nobody told us of: with stock repozo, cp or rsync, of one file or all.

A file that went back shows them (`points.known_files`).  From then on another history
is lived: a new timeline begins, and is written down where all tools read of it.  What
the files hold of the former one is a coherent whole up to the newest known point that
they still have, and no further: that point is where they are examined from.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage.abandoned_votes import read_abandoned_votes
from tidstorage.engines.filestorage.format import PACKED
from tidstorage.errors import FileUnreadable, TidstorageError
from tidstorage.points import journal, known_files, published, timelines
from tidstorage.points.beside import newest_point, write_beside
from tidstorage.points.entries import Timeline
from tidstorage.points.held import find_newest_held
from tidstorage.points.known_files import Finding
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock

logger = logging.getLogger(__name__)


def notice(cluster: Cluster, newest_set: Manifest | None = None) -> int | None:
    """Begin a new timeline where files went back; its number, None where none did.

    Where the daemon has noticed it before, its number is taken.  newest_set: of this
    cluster's; files that lack what it covers went back, whatever was noted of them:
    the notes may have been put back with them.

    Raises:
      FileUnreadable: a file, or what is known of it, cannot be read.
      OSError: it cannot be written down.
    """
    findings = known_files.examine(known_files.record_path(cluster), cluster.storages)
    went_back = [found for found in findings if found.state == "went back"]
    if not went_back and newest_set is not None:
        went_back = _compare_with_set(cluster, newest_set)
    if not went_back:
        return None
    number = timelines.known_timeline(cluster)
    if number == timelines.timeline_beside(cluster):
        number = _next_number(cluster)
        reason = "; ".join(found.words for found in went_back)
        entry = Timeline(clock.now(), number, _ends(cluster, went_back), reason)
        journal.append(cluster.daemon.journal, entry)
    for found in went_back:
        logger.warning("%s: timeline %d begins with it", found.words, number)
    floor = find_floor(cluster, number)
    point = dataclasses.replace(
        floor, time=clock.now(), source="restore", timeline=number
    )
    write_beside(point, [storage.data_file for storage in cluster.storages])
    known_files.note(cluster, accept=[found.storage.id for found in went_back])
    return number


def _compare_with_set(cluster: Cluster, made: Manifest) -> list[Finding]:
    """The storages whose files lack what a set of the same timeline covers."""
    if made.point.timeline != timelines.timeline_beside(cluster):
        return []
    found = []
    for name, last in cluster.present_ids(made.point.vector).items():
        storage = next((one for one in cluster.storages if one.id == name), None)
        if storage is None:
            continue
        kept, status = known_files.find_last(storage.data_file, last)
        # A pack may have taken it: it was empty, or no object of it is current.
        if kept == last or status == PACKED:
            continue
        if any(vote.tid == last for vote in read_abandoned_votes(storage.data_file)):
            continue
        words = (
            f"storage {name}: set {made.id} covers {tid.to_text(last)}, and"
            f" {storage.data_file} does not hold that"
        )
        found.append(Finding(storage, "went back", words, kept))
    return found


def find_floor(cluster: Cluster, timeline: int) -> Point:
    """The newest point of former timelines that all files still hold; else the empty
    one.

    What the daemon has published since the files went back is none to build on: it did
    not look below its first barrier.

    Raises: FileUnreadable: where a file cannot be read.
    """
    files = {storage.id: storage.data_file for storage in cluster.storages}
    former = [
        point for point in list_known_points(cluster) if point.timeline < timeline
    ]
    held = find_newest_held(former, files)
    return held or Point(dict.fromkeys(files, 0), clock.now(), "restore")


def _ends(cluster: Cluster, went_back: Sequence[Finding]) -> Mapping[str, int]:
    """{storage id: last TID that the file holds of the former timeline}."""
    of_restored = {found.storage.id: found.last_kept for found in went_back}
    return {
        storage.id: (
            of_restored[storage.id]
            if storage.id in of_restored
            else filestorage.last_tid(storage.data_file)
        )
        for storage in cluster.storages
    }


def list_known_points(cluster: Cluster) -> Iterator[Point]:
    """Points of the sets, of the journal, and beside the files, as far as these can be
    read: with fewer of them more is examined."""
    found: list[Point] = []
    try:
        directory = BackupDirectory(cluster.backup.directory)
        for made in directory.manifests():
            found.append(made.point)
            if made.floor is not None:
                found.append(made.floor)
    except (TidstorageError, OSError) as error:
        logger.warning("%s", error)
    try:
        if (beside := newest_point(cluster)) is not None:
            found.append(beside)
        of_journal = published.read(cluster.daemon.journal, _POINTS)
        found += of_journal.newest
    except FileUnreadable as error:
        logger.warning("%s", error)
    for point in found:
        yield dataclasses.replace(point, vector=cluster.present_ids(point.vector))


#: The newest points of the journal that are looked at.
_POINTS = 10_000


def _next_number(cluster: Cluster) -> int:
    files = [storage.data_file for storage in cluster.storages]
    of_sets = BackupDirectory(cluster.backup.directory).timelines()
    return timelines.highest(files, cluster.daemon.journal, of_sets) + 1
