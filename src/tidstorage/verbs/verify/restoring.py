"""The deepest look at a set: restored to scratch, every object of it read."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import NoSpace, NotCoherent, SetUnreadable
from tidstorage.operation.progress import Operation
from tidstorage.sets.manifest import Manifest
from tidstorage.system import disks
from tidstorage.verbs.verify import objects, trial
from tidstorage.verbs.verify.budget import TimeBudget
from tidstorage.verbs.verify.trial import ObjectFault, Trial


@dataclass(frozen=True, slots=True)
class TriedRestore:
    """What a restore to scratch showed.

    fault: why the set cannot be restored, in words; None where it can.  objects: how
    many were read.  lost: what the data lack, or the first so many of it.
    """

    fault: str | None = None
    objects: int = 0
    lost: Sequence[ObjectFault] = ()


def try_restore(
    cluster: Cluster, made: Manifest, budget: TimeBudget, operation: Operation
) -> TriedRestore:
    """Restore a set to scratch, read every object in it, and remove it again.

    Raises:
      OutOfTime: the time is over; what is there is kept for the next run.
      NoSpace: scratch has not the room, or had it no more; what was there is removed.
      SetUnreadable: a file of the set, or of scratch, could not be read or written.
    """
    folder = trial.folder_of(cluster, made.id)
    size = sum(storage.size for storage in made.storages)
    try:
        attempt = Trial(cluster, made)
        with operation.phase(f"restore set {made.id} to scratch", size) as phase:
            attempt.stage(budget, phase)
        lost = _read(attempt, budget, operation)
    except SetUnreadable:
        trial.remove(folder)
        raise
    except NotCoherent as error:
        trial.remove(folder)
        return TriedRestore(f"cannot be restored: {error}")
    except OSError as error:
        # A full disk, as a rule: what is there is in the way of others.
        trial.remove(folder)
        if disks.is_full(error):
            raise NoSpace(f"{folder}: {error.strerror}", trial.MAKE_ROOM) from error
        raise SetUnreadable(
            f"set {made.id} could not be tried in {folder}: {error}"
        ) from error
    trial.remove(folder)
    return TriedRestore(None, attempt.progress.objects, lost)


def _read(
    attempt: Trial, budget: TimeBudget, operation: Operation
) -> list[ObjectFault]:
    """What the data of a staged set lack.

    Raises: OutOfTime: as `try_restore`.
    """
    set_id = attempt.manifest.id
    with objects.open_storages(attempt.targets) as storages:
        total = objects.count_objects(storages)
        with operation.phase(f"read set {set_id}", total, "objects") as phase:
            phase.advance(attempt.progress.objects)
            objects.read_objects(attempt, storages, budget, phase.advance)
        lost = [*attempt.progress.lost]
        if attempt.progress.unresolved:
            # By garbage alone, maybe, which may refer to what is gone.
            with operation.phase(f"follow references of set {set_id}"):
                dangling = objects.find_dangling(attempt.cluster, storages)
                lost += islice(dangling, objects.MOST_TOLD)
    return lost
