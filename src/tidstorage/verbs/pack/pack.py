"""A whole pack: back up, pack each storage below its own TID of K, back up in full."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.engines import filestorage
from tidstorage.errors import NotCoherent
from tidstorage.operation import lock, pack_note, progress, results
from tidstorage.sets.manifest import Manifest
from tidstorage.system import durable
from tidstorage.verbs.backup.backup import back_up_while_locked
from tidstorage.verbs.pack.plan import (
    PackPlan,
    PlannedStorage,
    plan_from_here,
    refuse_the_impossible,
)
from tidstorage.zeo import packing

#: Called with each step, in words.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PackedStorage:
    """What came of the pack of one storage.

    size: bytes after it.  last_packed: TID of the last transaction that it left
    behind marked as packed, 0 without one.  changed: whether there was anything to
    pack.
    """

    plan: PlannedStorage
    size: int
    last_packed: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Packed:
    """What came of a whole pack.

    floor: the point that all stayed below.  set_before, set_after: the backup sets
    made before and after it; without the latter nothing was packed.
    """

    floor: Point
    set_before: Manifest
    storages: Sequence[PackedStorage]
    set_after: Manifest | None


def pack(
    cluster: Cluster,
    days: float,
    *,
    gc_is_off: bool = False,
    tell: Tell = lambda _text: None,
    show: progress.Show = progress.show_nothing,
) -> Packed:
    """Pack all storages, so that ``days`` of history are left at least.

    What is raised once the first storage is packed leaves good sets and sound files.

    gc_is_off: somebody has said that servers collect no garbage; believed where
    nobody can see it.  tell: called with each step, in words.  show: told how far a
    step is (`tidstorage.operation.progress`).

    Raises:
      PackUnsafe: a server would collect garbage, or nobody can tell; or it could not
        put the blobs that it removes where it keeps them.
      Locked: a backup, restore, prune or another pack is under way.
      FloorNeeded: no point without damage lies beside the files.
      NoSpace: the new files, or the full set that has to follow, have no room.
      NotCoherent: a server has packed further than it was asked to.
      EngineFailed: a server could not pack.
    """
    with (
        lock.hold(cluster, "pack"),
        results.record(cluster, "pack") as recorded,
    ):
        refuse_the_impossible(cluster, gc_is_off)
        _remove_leftovers(cluster, tell)
        tell("backing up first")
        before = back_up_while_locked(cluster)
        recorded.set, recorded.point = before.id, before.point.id
        planned = plan_from_here(cluster, days, before)
        if planned.floor.id != before.point.id:
            tell(
                f"staying below point {planned.floor.id}: what came after it is damaged"
            )
        # From here on a run that is killed is followed by a full set.
        _note(cluster, planned)
        with progress.operation(cluster, "pack", show) as operation:
            packed = [
                _pack_storage(cluster, storage, tell, operation)
                for storage in planned.storages
            ]
        after = None
        if any(storage.changed for storage in packed):
            tell("backing up what is left, in full")
            after = back_up_while_locked(cluster, full=True)
            recorded.set, recorded.point = after.id, after.point.id
        pack_note.remove_note(cluster)
        # Only now: whatever a server has done, there is a full set to go on from.
        _refuse_too_far(packed)
        return Packed(planned.floor, before, packed, after)


def _remove_leftovers(cluster: Cluster, tell: Tell) -> None:
    """Remove what a server wrote that was killed amid a pack: it begins anew."""
    for storage in cluster.storages:
        path = pack_note.leftover(storage)
        if path is not None:
            tell(f"removing {path}, left by a pack that was cut off")
            path.unlink()


def _note(cluster: Cluster, planned: PackPlan) -> None:
    below = {storage.id: storage.below for storage in planned.storages}
    pack_note.write_note(cluster, below)


def _pack_storage(
    cluster: Cluster, planned: PlannedStorage, tell: Tell, operation: progress.Operation
) -> PackedStorage:
    """Say what is done with one storage, and let its server do it."""
    tell(_in_words(planned))
    with operation.phase("pack", planned.size) as phase, phase.item(planned.id):
        return _pack(cluster, planned, phase.advance)


def _pack(
    cluster: Cluster, planned: PlannedStorage, advance: progress.Advance
) -> PackedStorage:
    storage = cluster.storage(planned.id)
    if planned.seconds is None:
        return PackedStorage(planned, planned.size, 0, False)
    # A server that finds nothing to pack leaves the file as it is.
    inode = storage.data_file.stat().st_ino
    packing.pack(cluster, storage, planned.seconds, advance)
    changed = storage.data_file.stat().st_ino != inode
    if changed:
        # FileStorage gives the new file the old one's name without doing so.
        durable.sync_file(storage.data_file)
        durable.sync_folder(storage.data_file.parent)
    return PackedStorage(
        plan=planned,
        size=storage.data_file.stat().st_size,
        last_packed=filestorage.packed_above(storage.data_file, 0),
        changed=changed,
    )


def _refuse_too_far(packed: Sequence[PackedStorage]) -> None:
    """Refuse what servers have done, not what they were asked for.

    Raises: NotCoherent: a file is packed at or above its TID in the point.
    """
    beyond = [
        storage for storage in packed if storage.last_packed >= storage.plan.below > 0
    ]
    if beyond:
        named = "; ".join(
            f"{storage.plan.id} to {tid.to_text(storage.last_packed)}, which is not"
            f" below {tid.to_text(storage.plan.below)}"
            for storage in beyond
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
