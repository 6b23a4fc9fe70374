"""A whole pack: backed up first, each storage below its own K, then a full set.

What a pack removes is part of every state before its time.  Hence each storage is
packed to a time below its TID in the point beside the files: whatever is cut later
is cut above that.
"""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.engines import filestorage
from tidstorage.errors import FloorNeeded, Locked, NotCoherent
from tidstorage.operation import lock, pack_note, progress, results
from tidstorage.operation.unfinished import refuse_unfinished
from tidstorage.points import floors
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock, disks, durable
from tidstorage.verbs.backup import prepare
from tidstorage.verbs.backup.backup import back_up_while_locked
from tidstorage.verbs.pack import garbage, times
from tidstorage.zeo import packing

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PlannedStorage:
    """seconds: the time it is packed to (`times`); None where it is empty.

    below: its TID in the point, which is above that time.
    """

    id: str
    seconds: float | None
    below: int
    size: int

    @property
    def time(self) -> datetime.datetime | None:
        """The same, aware, in UTC."""
        if self.seconds is None:
            return None
        return datetime.datetime.fromtimestamp(self.seconds, datetime.UTC)


@dataclass(frozen=True, slots=True)
class PackedStorage:
    """size: bytes after it.  last: TID of the last transaction that it left behind
    marked as packed, 0 without one.  changed: whether there was anything to pack."""

    plan: PlannedStorage
    size: int
    last: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Packed:
    """floor: the point that all stayed below.  first, last: the sets of before and
    after; without the latter nothing was packed."""

    floor: Point
    first: Manifest
    storages: Sequence[PackedStorage]
    last: Manifest | None


def pack(
    cluster: Cluster,
    days: float,
    trusted: bool = False,
    tell: Tell = lambda _text: None,
    show: progress.Show = progress.show_nothing,
) -> Packed:
    """Pack all storages, so that ``days`` of history are left at least.

    trusted: that servers collect no garbage is believed where nobody can see it.
    tell: told each step.  PackUnsafe, Locked, NoSpace, FloorNeeded before anything
    is packed; what is raised later leaves good sets and sound files.
    """
    with (
        lock.hold(cluster, "pack"),
        results.record(cluster, "pack") as run,
    ):
        refuse_the_impossible(cluster, trusted)
        _remove_leftovers(cluster, tell)
        tell("backing up first")
        first = back_up_while_locked(cluster)
        run.set, run.point = first.id, first.point.id
        floor = _floor(cluster)
        plans = plan(cluster, floor, days)
        if floor.id != first.point.id:
            tell(f"staying below point {floor.id}: what came after it is damaged")
        _refuse_lack_of_space(cluster, first)
        _note(cluster, plans)
        packed = []
        with progress.operation(cluster, "pack", show) as operation:
            for each in plans:
                tell(_in_words(each))
                with (
                    operation.phase("pack", each.size) as phase,
                    phase.item(each.id),
                ):
                    packed.append(_pack(cluster, each, phase.advance))
        last = None
        if any(each.changed for each in packed):
            tell("backing up what is left, in full")
            last = back_up_while_locked(cluster, full=True)
            run.set, run.point = last.id, last.point.id
        pack_note.remove_note(cluster)
        _refuse_too_far(packed)
        return Packed(floor, first, packed, last)


def preview(
    cluster: Cluster, days: float, trusted: bool = False
) -> tuple[Point, Sequence[PlannedStorage]]:
    """The point that a pack would stay below now, and what it would do.

    The real one takes a new point first.  Raises what `pack` would.
    """
    refuse_the_impossible(cluster, trusted)
    floor = _floor(cluster)
    made = BackupDirectory.open(cluster).manifests()
    _refuse_lack_of_space(cluster, made[0] if made else None)
    return floor, plan(cluster, floor, days)


def plan(cluster: Cluster, floor: Point, days: float) -> list[PlannedStorage]:
    """To which time each storage is packed, in the description's order."""
    not_after = clock.now() - datetime.timedelta(days=days)
    vector = cluster.present_ids(floor.vector)
    planned = []
    for storage in cluster.storages:
        below = vector.get(storage.id, 0)
        seconds = times.seconds_below(below, not_after) if below else None
        size = storage.data_file.stat().st_size
        planned.append(PlannedStorage(storage.id, seconds, below, size))
    return planned


def refuse_the_impossible(cluster: Cluster, trusted: bool) -> None:
    """Before anything is done."""
    refuse_unfinished(cluster)
    prepare.refuse_the_impossible(cluster)
    for storage in cluster.storages:
        garbage.refuse(cluster, storage, trusted)
        if packing.is_packing(cluster, storage):
            raise Locked(
                f"ZEO server {storage.zeo} is packing {storage.id} already",
                "Wait for its end (its log tells), then try again.",
            )


def _remove_leftovers(cluster: Cluster, tell: Tell) -> None:
    """What a server wrote that was killed amid a pack: it would begin anew."""
    for storage in cluster.storages:
        path = pack_note.leftover(storage)
        if path is not None:
            tell(f"removing {path}, left by a pack that was cut off")
            path.unlink()


def _floor(cluster: Cluster) -> Point:
    paths = {each.id: each.data_file for each in cluster.storages}
    floor = floors.point_beside(paths, cluster.aliases)
    if floor is None:
        raise FloorNeeded(
            "no point without damage lies beside the data files",
            "bin/cluster backup writes one; where half commits are in its way, see"
            " bin/cluster damage.",
        )
    return floor


def _refuse_lack_of_space(cluster: Cluster, previous: Manifest | None) -> None:
    """NoSpace where the second file of each storage, or the full set, has no room.

    Files of before stay as ``Data.fs.old``; those of the last pack go.
    """
    needed: dict[Path, int] = {}
    for storage in cluster.storages:
        path = packing.pack_file_of(storage.data_file)
        before = packing.old_file_of(storage.data_file)
        freed = before.stat().st_size if before.exists() else 0
        needed[path] = max(0, storage.data_file.stat().st_size - freed)
    disks.refuse_lack(
        needed,
        "a pack, which writes a second file beside each,",
        "Make room. Nothing has been packed.",
    )
    if previous is not None:
        copies = sum(file.size for each in previous.storages for file in each.files)
        disks.refuse_lack(
            {cluster.backup.directory: copies},
            "the full set that a pack makes necessary",
            "Make room (bin/cluster prune --dry-run). Nothing has been packed.",
        )


def _note(cluster: Cluster, plans: Sequence[PlannedStorage]) -> None:
    pack_note.write_note(cluster, {each.id: each.below for each in plans})


def _pack(
    cluster: Cluster, planned: PlannedStorage, advance: progress.Advance
) -> PackedStorage:
    storage = cluster.storage(planned.id)
    if planned.seconds is None:
        return PackedStorage(planned, planned.size, 0, False)
    inode = storage.data_file.stat().st_ino
    packing.pack(cluster, storage, planned.seconds, advance)
    changed = storage.data_file.stat().st_ino != inode
    if changed:
        # FileStorage gives the new file the old one's name without doing so.
        durable.sync_file(storage.data_file)
        durable.sync_folder(storage.data_file.parent)
    return PackedStorage(
        planned,
        storage.data_file.stat().st_size,
        filestorage.packed_above(storage.data_file, 0),
        changed,
    )


def _refuse_too_far(packed: Sequence[PackedStorage]) -> None:
    """Not what the server was asked for, but what it has done."""
    beyond = [each for each in packed if each.last >= each.plan.below > 0]
    if beyond:
        named = "; ".join(
            f"{each.plan.id} to {tid.to_text(each.last)}, which is not below"
            f" {tid.to_text(each.plan.below)}"
            for each in beyond
        )
        raise NotCoherent(
            f"packed too far: {named}",
            "Earlier points cannot be cut from these files any more; the full set that"
            " was just made is a new beginning. Who else packs?",
        )


def _in_words(planned: PlannedStorage) -> str:
    if planned.time is None:
        return f"{planned.id} is empty: nothing to pack"
    return f"packing {planned.id} up to {planned.time:%Y-%m-%d %H:%M:%S} UTC"
