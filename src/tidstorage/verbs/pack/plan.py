"""What a pack would do: to which time each storage is packed, and whether it may.

What a pack removes is part of every state before its time.  Hence each storage is
packed to a time below its TID in the point beside the files: whatever is cut later
is cut above that.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster import pack_files
from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.errors import FloorNeeded, Locked
from tidstorage.operation.unfinished import refuse_unfinished
from tidstorage.points import floors
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock, disks
from tidstorage.verbs.backup import prepare
from tidstorage.verbs.pack import garbage, old_blobs, times
from tidstorage.zeo import packing


@dataclass(frozen=True, slots=True)
class PlannedStorage:
    """To which time one storage is packed.

    seconds: that time, since 1970 (`times`); None where the storage is empty.  below:
    the storage's TID in the point, which is above that time.  size: bytes of the
    Data.fs before the pack.
    """

    id: str
    seconds: float | None
    below: int
    size: int

    @property
    def time(self) -> datetime.datetime | None:
        """The same time, aware, in UTC."""
        if self.seconds is None:
            return None
        return datetime.datetime.fromtimestamp(self.seconds, datetime.UTC)


@dataclass(frozen=True, slots=True)
class PackPlan:
    """What a pack does: shown, or performed.

    floor: the point that every storage stays below.  storages: in the description's
    order.
    """

    floor: Point
    storages: Sequence[PlannedStorage]


def plan(cluster: Cluster, days: float, *, gc_is_off: bool = False) -> PackPlan:
    """What a pack would do now; nothing is changed.

    A pack itself takes a new point first, which may be later than this plan's.
    Arguments and errors are those of `tidstorage.verbs.pack.pack.pack`.
    """
    refuse_the_impossible(cluster, gc_is_off)
    made = BackupDirectory.open(cluster).manifests()
    return plan_from_here(cluster, days, made[0] if made else None)


def plan_from_here(
    cluster: Cluster, days: float, previous: Manifest | None
) -> PackPlan:
    """What a pack would do, staying below the point that lies beside the files now.

    previous: the newest set, by which the full one to come is reckoned.

    Raises:
      FloorNeeded: there is no such point.
      NoSpace: the pack, or the full set after it, has no room.
    """
    floor = _find_floor(cluster)
    _refuse_lack_of_space(cluster, previous)
    not_after = clock.now() - datetime.timedelta(days=days)
    vector = cluster.present_ids(floor.vector)
    planned = []
    for storage in cluster.storages:
        below = vector.get(storage.id, 0)
        seconds = times.seconds_below(below, not_after) if below else None
        size = storage.data_file.stat().st_size
        planned.append(PlannedStorage(storage.id, seconds, below, size))
    return PackPlan(floor, planned)


def refuse_the_impossible(cluster: Cluster, gc_is_off: bool) -> None:
    """Refuse what cannot come to a good end, before anything is done.

    Raises:
      PackUnsafe: a server would collect garbage, or nobody can tell; or it could not
        put the blobs that it removes where it keeps them.
      Locked: a server is packing already.
      InterruptedRestore: a restore has to be ended first.
      as `prepare.refuse_the_impossible`.
    """
    refuse_unfinished(cluster)
    prepare.refuse_the_impossible(cluster)
    for storage in cluster.storages:
        garbage.refuse_collection(cluster, storage, gc_is_off)
        old_blobs.refuse_other_mount(cluster, storage)
        if packing.is_packing(cluster, storage):
            raise Locked(
                f"ZEO server {storage.zeo} is packing {storage.id} already",
                "Wait for its end (its log tells), then try again.",
            )


def _find_floor(cluster: Cluster) -> Point:
    """The point beside the files; without damage, whatever came after it.

    Raises: FloorNeeded: there is none.
    """
    paths = {storage.id: storage.data_file for storage in cluster.storages}
    floor = floors.point_beside(paths, cluster.aliases)
    if floor is None:
        raise FloorNeeded(
            "no point without damage lies beside the data files",
            "bin/cluster backup writes one; where half commits are in its way, see"
            " bin/cluster damage.",
        )
    return floor


def _refuse_lack_of_space(cluster: Cluster, previous: Manifest | None) -> None:
    """Refuse where the second file of each storage and the full set have no room.

    A pack leaves the file of before as ``Data.fs.old``, in the place of that of the
    last pack.  It is still there when the set is made, which may be on the same disk.

    Raises: NoSpace: before anything is packed.
    """
    needed: dict[Path, int] = {}
    for storage in cluster.storages:
        path = pack_files.pack_file_of(storage.data_file)
        before = pack_files.old_file_of(storage.data_file)
        freed = before.stat().st_size if before.exists() else 0
        needed[path] = max(0, storage.data_file.stat().st_size - freed)
    what = "a pack, which writes a second file beside each Data.fs"
    if previous is not None:
        what += " and is followed by a full set"
        needed[cluster.backup.directory] = sum(
            file.size for storage in previous.storages for file in storage.files
        )
    disks.refuse_lack(
        needed,
        f"{what},",
        "Make room there (for the set: bin/cluster prune). Nothing has been packed.",
    )
