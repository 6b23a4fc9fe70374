"""Ends in doubt: transactions that saw of a storage what its file does not hold.

Either that was of a timeline which a restore has ended, and a Zope was left running
over it; or it was the TID of a vote that was abandoned, which is no transaction.
"""

import datetime
import logging
from collections.abc import Collection, Mapping, Sequence

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.record import Record
from tidstorage.errors import FileUnreadable, NotConnected
from tidstorage.points import journal, known_files, restores_by_hand
from tidstorage.points.entries import Timeline
from tidstorage.zeo.seal import seal

logger = logging.getLogger(__name__)


class EndInDoubt(Exception):
    """bounds: {storage id: the highest TID of it that others saw, above its end}."""

    def __init__(self, bounds: Mapping[str, int]) -> None:
        super().__init__(f"ends in doubt: {', '.join(sorted(bounds))}")
        self.bounds = bounds


def find_doubts(
    records: Mapping[str, Sequence[Record]],
    floor: Mapping[str, int],
    packed: Mapping[str, int],
) -> dict[str, int]:
    """{storage id: the highest TID of it that others saw}, where it ends before that.

    records: {storage id: those above the floor, abandoned votes included}.  floor:
    {storage id: the TID that nothing above is known of without records}.  packed:
    {storage id: TID up to which a pack may have taken records}.
    """
    seen: dict[str, int] = {}
    for of_storage in records.values():
        for record in of_storage:
            if record.stamp is not None:
                for storage, bound in record.stamp.vector.items():
                    seen[storage] = max(bound - 1, seen.get(storage, 0))
    ends = {
        storage: of_storage[-1].tid if of_storage else floor[storage]
        for storage, of_storage in records.items()
    }
    return {
        storage: seen[storage]
        for storage, end in ends.items()
        if seen.get(storage, 0) > max(end, packed.get(storage, 0))
    }


def _timeline_begun(cluster: Cluster) -> datetime.datetime | None:
    """When the present timeline began, at the latest, by whoever noticed that."""
    begun = [known_files.timeline_begun(cluster)]
    try:
        begun += [
            entry.time
            for entry in journal.read_but_old_points(cluster.daemon.journal)
            if isinstance(entry, Timeline)
        ]
    except FileUnreadable as error:
        logger.warning("%s", error)
    return max((time for time in begun if time is not None), default=None)


def _highest_known(cluster: Cluster) -> Mapping[str, int]:
    """{storage id: the highest TID that any known point covers}."""
    highest: dict[str, int] = {}
    for point in restores_by_hand.list_known_points(cluster):
        for storage, last in point.vector.items():
            highest[storage] = max(last, highest.get(storage, 0))
    return highest


def seal_ends(cluster: Cluster, bounds: Mapping[str, int]) -> Collection[str]:
    """Seal the storages of which nothing can be lost: the ids of those.

    What was seen before the present timeline began may be of the former one.
    """
    since = _timeline_begun(cluster)
    known = _highest_known(cluster)
    sealed = []
    for storage_id, seen in sorted(bounds.items()):
        if since is not None and tid.to_time(seen) <= since:
            continue
        if seen <= known.get(storage_id, 0):
            # A point covers it: it was a transaction once, and is lost.
            continue
        try:
            zeo = cluster.zeo(cluster.storage(storage_id).zeo)
            last = seal(zeo.address, storage_id, storage_id, server=zeo.name)
        except NotConnected as error:
            logger.warning("%s", error)
            continue
        if last <= seen:
            logger.warning(
                "storage %s: its server's clock is before %s",
                storage_id,
                tid.to_time(seen),
            )
            continue
        logger.warning(
            "storage %s: others saw %s, which it does not hold: taken for a vote that"
            " was abandoned, and sealed with the empty transaction %s. If that file was"
            " put back by hand, stop every Zope, then run bin/cluster rebase",
            storage_id,
            tid.to_text(seen),
            tid.to_text(last),
        )
        sealed.append(storage_id)
    return sealed
