"""The deepest look at a set: restored to scratch, every object of it read."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import NoSpace, NotCoherent
from tidstorage.operation.progress import Operation
from tidstorage.sets import renaming
from tidstorage.sets.manifest import Manifest
from tidstorage.system import disks
from tidstorage.verbs.verify import objects, scratch
from tidstorage.verbs.verify.budget import Budget
from tidstorage.verbs.verify.scratch import Loss


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it.

    fault: why the set cannot be restored, in words; None where it can.  objects: how
    many were read.  lost: what the data lack, or the first so many of it.
    """

    fault: str | None = None
    objects: int = 0
    lost: Sequence[Loss] = ()


def restore(
    cluster: Cluster, made: Manifest, budget: Budget, operation: Operation
) -> Restored:
    """Restore a set to scratch, read it, and remove it again.

    OutOfTime, with what is there kept for the next run; NoSpace.
    """
    folder = scratch.folder_of(cluster, made.id)
    state = scratch.read_state(folder)
    try:
        size = sum(each.size for each in made.storages)
        with operation.phase(f"restore set {made.id} to scratch", size) as phase:
            state = scratch.stage(cluster, made, state, budget, phase)
    except NotCoherent as error:
        scratch.remove(folder)
        return Restored(f"cannot be restored: {error}")
    except OSError as error:
        # A full disk, as a rule: what is there is in the way of others.
        scratch.remove(folder)
        if disks.is_full(error):
            raise NoSpace(f"{folder}: {error.strerror}", scratch.MAKE_ROOM) from error
        raise
    targets = scratch.targets_of(
        folder, renaming.rename_storages(made, cluster.aliases)
    )
    with objects.opened(targets) as storages:
        total = objects.count(storages)
        with operation.phase(f"read set {made.id}", total, "objects") as phase:
            phase.advance(state.objects)
            state = objects.read_all(
                cluster,
                made,
                storages,
                state,
                budget,
                phase.advance,
                lambda found: scratch.write_state(folder, found),
            )
        lost = [*state.lost]
        if state.unresolved:
            with operation.phase(f"follow references of set {made.id}"):
                found = objects.dangling(cluster, storages)
                lost += islice(found, objects.MOST_TOLD)
    scratch.remove(folder)
    return Restored(None, state.objects, lost)
