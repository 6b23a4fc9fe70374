"""A backup as the original makes it: the TID log first, then each storage.

What the log's last point covers is in the files when their copies begin, so that
a restore can cut every copy there.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tidstorage.engines import filestorage
from tidstorage.errors import (
    EngineFailed,
    InterruptedRestore,
    NotCoherent,
    TidstorageError,
)
from tidstorage.legacy import site as sites
from tidstorage.legacy.repozo import Repozo
from tidstorage.legacy.site import Site, SiteStorage
from tidstorage.operation import lock
from tidstorage.points import tid_log
from tidstorage.sets import repozo as repository
from tidstorage.system import durable

logger = logging.getLogger(__name__)


def back_up(site: Site, repozo: Repozo) -> str:
    """Back up all storages; the time that is noted for it.

    One that fails does not keep the others from being tried, but then the backup
    is not noted, and the former one stays what a restore takes.  EngineFailed,
    Locked, FileUnreadable.
    """
    with lock.hold_file(site.lock_file, "tidstorage_repozo") as descriptor:
        if site.swap_journal.exists():
            raise InterruptedRestore(f"a restore was interrupted: {site.swap_journal}")
        second = sites.next_second(site)
        vector = _keep_status_file(site, second)
        failed = {}
        for storage in site.storages:
            try:
                _copy(storage, repozo, vector.get(storage.id), descriptor)
            except (TidstorageError, OSError) as error:
                failed[storage.id] = error
        if failed:
            texts = (f"{storage}: {error}" for storage, error in failed.items())
            raise EngineFailed(
                f"{len(failed)} of {len(site.storages)} storages could not be backed"
                f" up: {'; '.join(texts)}",
                "The former backup is as good as before.",
            )
        # All that was written is on disk before anybody is told that it is there.
        os.sync()
        for storage in site.storages:
            _keep_only_newest_index(storage.repository)
        return sites.note_success(site)


def _keep_status_file(site: Site, second: str) -> Mapping[str, int]:
    """Copy the TID log as it is now; its last point, as far as there is one."""
    if site.status_file is None or site.status_backups is None:
        return {}
    vector = tid_log.read_last(site.status_file)
    for storage in site.storages:
        if storage.id not in vector:
            logger.warning(
                "%s has no point with storage %s: a restore cannot cut it there",
                site.status_file,
                storage.id,
            )
    site.status_backups.mkdir(parents=True, exist_ok=True)
    target = site.status_backups / f"{site.status_file.name}-{second}"
    beside = target.with_name(f".{target.name}.new")
    with site.status_file.open("rb") as log, beside.open("wb+") as copy:
        shutil.copyfileobj(log, copy)
        # The daemon may be writing the last line.
        tid_log.heal(copy)
        copy.flush()
        os.fsync(copy.fileno())
    beside.rename(target)
    durable.sync_folder(target.parent)
    return vector


def _copy(storage: SiteStorage, repozo: Repozo, last: int | None, lock: int) -> None:
    storage.repository.mkdir(parents=True, exist_ok=True)
    left = repository.unrecorded(storage.repository)
    if left:
        logger.warning(
            "%s: a full copy is made, since a run was killed that had begun %s",
            storage.repository,
            ", ".join(left),
        )
    repozo.back_up(storage.data_file, storage.repository, bool(left), lock)
    parts = repository.newest_chain(storage.repository)
    if not parts:
        raise EngineFailed(f"repozo left no copy in {storage.repository}")
    if last is not None:
        _refuse_unreachable(storage, parts[-1].end, last)


def _refuse_unreachable(storage: SiteStorage, end: int, last: int) -> None:
    """NotCoherent where the copy cannot be cut behind the TID ``last``."""
    if filestorage.packed_above(storage.data_file, last):
        raise NotCoherent(
            f"{storage.data_file} was packed above the point of the TID log"
        )
    if filestorage.position_after(storage.data_file, last) > end:
        raise NotCoherent(f"the copy of {storage.data_file} ends before the point")


def _keep_only_newest_index(folder: Path) -> None:
    """Each has the size of all others, and only the newest is ever used."""
    for each in sorted(folder.glob("*.index"))[:-1]:
        each.unlink()
