"""A restore as the original makes it: repozo's copies, cut at a TID log's last point.

All storages or none: they are put together beside the present files, and take
their place when each of them is right.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tidstorage.coherence.point import Point
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import index
from tidstorage.engines.filestorage import lock as file_lock
from tidstorage.legacy import copies
from tidstorage.legacy import site as sites
from tidstorage.legacy.repozo import Repozo
from tidstorage.legacy.site import Site, SiteStorage
from tidstorage.operation import lock
from tidstorage.operation.unfinished import plan_beside
from tidstorage.points import timelines
from tidstorage.system import clock, disks
from tidstorage.verbs.restore import check, cut_plan, swap, target
from tidstorage.verbs.restore.swap import Swap
from tidstorage.verbs.restore.target import Target


@dataclass(frozen=True, slots=True)
class Recovery:
    """A restore of one backup, planned or done.

    second: when that backup succeeded, as repozo's ``-D`` takes it.  vector:
    {storage id: TID of the last transaction to keep}; None: the copies stay as they
    are.  sizes: {storage id: bytes}, as long as it is planned those of the copies,
    then those of the restored files.
    """

    second: str
    vector: Mapping[str, int] | None
    sizes: Mapping[str, int]


def plan(site: Site, tid_log: Path | None) -> Recovery | Swap:
    """Decide what a restore does; nothing is changed, and servers may run.

    tid_log: at whose last point the copies are to be cut; None: not at all.  Where
    a former restore stopped amid its swap of files, that swap has to come to its
    end, and nothing else is done.

    Raises:
      NoSuchSet: where no backup has succeeded yet.
      NotCoherent: where the point does not have every storage.
      EngineFailed: where a repository lacks the copy.
      FileUnreadable: where the TID log cannot be read.
      NoSpace: where the copies do not fit beside the present files.
    """
    if site.swap_journal.exists():
        return swap.read(site.swap_journal)
    ids = [storage.id for storage in site.storages]
    vector = None if tid_log is None else sites.read_vector(tid_log, ids)
    second = sites.read_last_timestamp(site)
    sizes = {
        storage.id: copies.find_files(storage, second)[-1].end
        for storage in site.storages
    }
    disks.refuse_lack(
        {storage.data_file.resolve(): sizes[storage.id] for storage in site.storages},
        "the restore, beside the present files,",
        "Make room; nothing has been changed.",
    )
    return Recovery(second, vector, sizes)


def recover(site: Site, repozo: Repozo, tid_log: Path | None) -> Recovery | Swap:
    """Do what `plan` says; returns that, with the sizes of the restored files.

    The present files are kept under other names.  Where an error is raised nothing
    has been changed, but where it is InterruptedRestore.

    Raises:
      ClusterRunning: while a server has one of the files open.
      Locked: while another command works on the site.
      InterruptedRestore: where the swap of files stops; running it again ends it.
      NotCoherent, EngineFailed: where a copy is not what was backed up, or cannot
      be cut there.
      All that `plan` raises.
    """
    with _hold_alone(site) as descriptor:
        planned = plan(site, tid_log)
        if isinstance(planned, Swap):
            swap.finish(planned, site.swap_journal)
            return planned
        return _perform(site, planned, repozo, descriptor)


def _perform(
    site: Site, planned: Recovery, repozo: Repozo, descriptor: int
) -> Recovery:
    targets = _find_targets(site)
    target.remove_staging(targets.values())
    try:
        for storage in site.storages:
            staged = targets[storage.id].staged_data_file
            _put_together(storage, repozo, planned, staged, descriptor)
            check.refuse_unsound(storage.id, targets[storage.id])
        sizes = {
            storage: files.staged_data_file.stat().st_size
            for storage, files in targets.items()
        }
        for files in targets.values():
            files.give_to_owners()
        exchange = _plan_swap(site, planned, targets)
        # From here on it can only go forward: the next run ends it.
        swap.write(exchange, site.swap_journal)
    except BaseException:
        target.remove_staging(targets.values())
        raise
    swap.finish(exchange, site.swap_journal)
    return replace(planned, sizes=sizes)


@contextlib.contextmanager
def _hold_alone(site: Site) -> Iterator[int]:
    """Yields the lock's descriptor; no server has a data file, or gets one.

    Other than `site.hold_alone` for a restore, which ends an interrupted one.
    """
    with lock.hold_file(site.lock_file, "tidstorage_repozo --recover") as descriptor:
        for storage in site.storages:
            storage.data_file.parent.mkdir(parents=True, exist_ok=True)
        with cut_plan.locked(storage.data_file for storage in site.storages):
            yield descriptor


def _find_targets(site: Site) -> dict[str, Target]:
    """{storage id: its files, behind links where there are any}."""
    return {
        storage.id: Target(
            storage.data_file.resolve(), index.path_of(storage.data_file), None
        )
        for storage in site.storages
    }


def _put_together(
    storage: SiteStorage, repozo: Repozo, planned: Recovery, output: Path, lock: int
) -> None:
    """Write the copy to ``output``, and cut it where that is planned."""
    copies.put_together(
        storage, repozo, second=planned.second, output=output, lock=lock
    )
    if planned.vector is not None:
        last = planned.vector[storage.id]
        copies.refuse_uncuttable(storage, output, last)
        filestorage.truncate(output, last)
        file_lock.path_of(output).unlink(missing_ok=True)


def _plan_swap(site: Site, planned: Recovery, targets: Mapping[str, Target]) -> Swap:
    moment = target.unused_moment(list(targets.values()))
    paths = [storage.data_file for storage in site.storages]
    point = Point(
        # Without a TID log nothing is known of what fits together.
        vector=planned.vector or {},
        time=clock.now(),
        source="restore",
        timeline=timelines.highest(paths, None) + 1,
        verified=planned.vector is not None,
    )
    actions = [action for files in targets.values() for action in files.actions(moment)]
    # A cut of the present files that was interrupted is of no meaning any more.
    actions += [swap.Action("remove", str(plan_beside(path))) for path in paths]
    return Swap(1, planned.second, actions, point, paths)
