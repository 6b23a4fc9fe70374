"""A restore as the original makes it: repozo's copies, cut at a TID log's last point.

All storages or none: they are put together beside the present files, and take
their place when each of them is right.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import index
from tidstorage.engines.filestorage import lock as file_lock
from tidstorage.engines.filestorage.abandoned_votes import abandoned_votes
from tidstorage.errors import EngineFailed, NotCoherent
from tidstorage.legacy import site as sites
from tidstorage.legacy.repozo import Repozo
from tidstorage.legacy.site import Site, SiteStorage
from tidstorage.operation import lock
from tidstorage.operation.unfinished import plan_beside
from tidstorage.points import timelines
from tidstorage.sets import repozo as repository
from tidstorage.system import clock, disks
from tidstorage.verbs.restore import check, cut_plan, swap, target
from tidstorage.verbs.restore.swap import Swap
from tidstorage.verbs.restore.target import Target

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was restored, or would be.

    second: of the backup.  vector: where it was cut, None: it was not.  sizes:
    {storage id: bytes}; in a rehearsal those of the copies.  resumed: a swap that
    was interrupted was brought to its end, and nothing else was done.
    """

    second: str
    vector: Mapping[str, int] | None
    sizes: Mapping[str, int]
    resumed: bool = False


def recover(site: Site, repozo: Repozo, tid_log: Path | None) -> Recovered:
    """Put the last backup that succeeded in place of the present files.

    tid_log: whose last point to cut at; None: the copies stay as they are.  The
    present files are kept under other names.  ClusterRunning while a server has
    one open; NotCoherent, NoSpace, EngineFailed, FileUnreadable, NoSuchSet: then
    nothing is changed.
    """
    with _alone(site) as descriptor:
        if site.swap_journal.exists():
            found = swap.read(site.swap_journal)
            swap.finish(found, site.swap_journal)
            return Recovered(found.set_id, None, {}, resumed=True)
        plan = rehearse(site, tid_log)
        targets = _targets(site)
        target.remove_staging(targets.values())
        try:
            for storage in site.storages:
                staged = targets[storage.id].staged_data_file
                _put_together(storage, repozo, plan, staged, descriptor)
                check.refuse_unsound(storage.id, targets[storage.id])
            sizes = {
                storage: each.staged_data_file.stat().st_size
                for storage, each in targets.items()
            }
            for each in targets.values():
                each.give_to_owners()
            done = _swap(site, plan, targets)
            swap.write(done, site.swap_journal)
        except BaseException:
            target.remove_staging(targets.values())
            raise
        swap.finish(done, site.swap_journal)
        return Recovered(plan.second, plan.vector, sizes)


def rehearse(site: Site, tid_log: Path | None) -> Recovered:
    """What `recover` would do, as far as that can be told without doing it."""
    ids = [each.id for each in site.storages]
    vector = None if tid_log is None else sites.vector_of(tid_log, ids)
    second = sites.last_timestamp(site)
    sizes = {each.id: parts_of(each, second)[-1].end for each in site.storages}
    disks.refuse_lack(
        {each.data_file.resolve(): sizes[each.id] for each in site.storages},
        "the restore, beside the present files,",
        "Make room; nothing has been changed.",
    )
    return Recovered(second, vector, sizes)


@contextlib.contextmanager
def _alone(site: Site) -> Iterator[int]:
    """The lock's descriptor; no server has a file, or gets one."""
    with lock.hold_file(site.lock_file, "tidstorage_repozo --recover") as descriptor:
        for storage in site.storages:
            storage.data_file.parent.mkdir(parents=True, exist_ok=True)
        with cut_plan.locked(each.data_file for each in site.storages):
            yield descriptor


def parts_of(storage: SiteStorage, second: str) -> list[repository.RepozoFile]:
    """The files of the copy of that second; EngineFailed where there is none."""
    parts = list(repository.chain_until(storage.repository, second))
    if not parts:
        raise EngineFailed(
            f"{storage.repository} has no copy of {second} UTC or before",
            "The last backup that succeeded should have one: is the path right?",
        )
    return parts


def _targets(site: Site) -> dict[str, Target]:
    return {
        each.id: Target(each.data_file.resolve(), index.path_of(each.data_file), None)
        for each in site.storages
    }


def _put_together(
    storage: SiteStorage, repozo: Repozo, plan: Recovered, output: Path, lock: int
) -> None:
    """The copy at ``output``, cut; NotCoherent where it is not what was written."""
    repozo.recover(storage.repository, plan.second, output, lock)
    refuse_damaged(storage, parts_of(storage, plan.second), output)
    if plan.vector is not None:
        refuse_short(storage, output, plan.vector[storage.id])
        filestorage.truncate(output, plan.vector[storage.id])
        file_lock.path_of(output).unlink(missing_ok=True)


def refuse_damaged(
    storage: SiteStorage, parts: list[repository.RepozoFile], copy: Path
) -> None:
    """NotCoherent where the copy is not what repozo read when it was made."""
    size = copy.stat().st_size
    if size != parts[-1].end:
        raise NotCoherent(
            f"the copy of {storage.data_file} has {size} bytes instead of"
            f" {parts[-1].end}: {storage.repository} is damaged"
        )
    with copy.open("rb") as stream:
        for part in parts:
            digest = hashlib.md5(usedforsecurity=False)
            left = part.end - part.start
            while left:
                block = stream.read(min(_BLOCK, left))
                digest.update(block)
                left -= len(block)
            if digest.hexdigest() != part.md5:
                raise NotCoherent(
                    f"{storage.repository / part.name} is not what repozo wrote"
                )


def refuse_short(storage: SiteStorage, copy: Path, last: int) -> None:
    """NotCoherent where the copy cannot be cut behind the TID ``last``."""
    if filestorage.packed_above(copy, last):
        raise NotCoherent(
            f"{storage.data_file} was packed above the point: what was there is gone"
            " from the copy",
            "Give the TID log that was kept with the backup, or a later one.",
        )
    votes = (each.tid for each in abandoned_votes(storage.data_file))
    if max([filestorage.last_tid(copy), *votes]) < last:
        raise NotCoherent(
            f"the copy of {storage.data_file} ends before the point:"
            f" {tid.to_text(last)} is not in it",
            "Give the TID log that was kept with the backup, or an earlier one.",
        )


def _swap(site: Site, plan: Recovered, targets: Mapping[str, Target]) -> Swap:
    moment = target.unused_moment(list(targets.values()))
    files = [each.data_file for each in site.storages]
    new = Point(
        # Without a point nothing is known of what fits together.
        vector=plan.vector or {},
        time=clock.now(),
        source="restore",
        timeline=timelines.highest(files, None) + 1,
        verified=plan.vector is not None,
    )
    actions = [act for each in targets.values() for act in each.actions(moment)]
    actions += [swap.Action("remove", str(plan_beside(each))) for each in files]
    return Swap(plan.second, actions, new, files)
