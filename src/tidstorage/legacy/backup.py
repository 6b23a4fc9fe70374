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
from tidstorage.errors import EngineFailed, NotCoherent, TidstorageError
from tidstorage.legacy import site as sites
from tidstorage.legacy.repozo import Repozo
from tidstorage.legacy.site import Site, SiteStorage
from tidstorage.points import tid_log
from tidstorage.sets import repozo as repository
from tidstorage.system import durable

logger = logging.getLogger(__name__)


def back_up(site: Site, repozo: Repozo) -> str:
    """Back up all storages; returns the time that is noted for the backup.

    One storage that fails does not keep the others from being tried, but then the
    backup is not noted, and the former one stays what a restore takes.

    Raises:
      EngineFailed: where a storage could not be backed up, or the clock went back.
      Locked: while another command works on the site.
      InterruptedRestore: where a restore stopped in the middle.
      FileUnreadable: where the TID log cannot be read.
    """
    with sites.hold_alone(site, "tidstorage_repozo") as descriptor:
        second = sites.await_next_second(site)
        vector = _keep_tid_log(site, second)
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
                "This backup does not count. The former one is as good as before, and"
                " is what a restore takes.",
            )
        # All that was written is on disk before anybody is told that it is there.
        os.sync()
        for storage in site.storages:
            _keep_only_newest_index(storage.repository)
        return sites.note_success(site)


def _keep_tid_log(site: Site, second: str) -> Mapping[str, int]:
    """Copy the TID log as it is now; its last point, as far as there is one."""
    if site.status_file is None or site.status_backups is None:
        return {}
    vector = tid_log.read_last(site.status_file)
    for storage in site.storages:
        if storage.id not in vector:
            logger.warning(
                "the last point in %s lacks storage %s: a restore cannot cut its copy",
                site.status_file,
                storage.id,
            )
    site.status_backups.mkdir(parents=True, exist_ok=True)
    target = site.status_backups / f"{site.status_file.name}-{second}"
    beside = target.with_name(f".{target.name}.new")
    with site.status_file.open("rb") as log, beside.open("wb+") as copy:
        shutil.copyfileobj(log, copy)
        # The daemon may be writing the last line.
        durable.cut_torn_line(copy)
        copy.flush()
        os.fsync(copy.fileno())
    beside.rename(target)
    durable.sync_folder(target.parent)
    return vector


def _copy(storage: SiteStorage, repozo: Repozo, last: int | None, lock: int) -> None:
    """Let repozo copy one storage; ``last``: its TID in the last point, if it has one.

    lock: a descriptor that stays open in repozo, should we be killed.
    """
    storage.repository.mkdir(parents=True, exist_ok=True)
    unrecorded = repository.find_unrecorded(storage.repository)
    if unrecorded:
        logger.warning(
            "%s: a run that was killed has left %s; this backup makes a full copy",
            storage.repository,
            ", ".join(unrecorded),
        )
    # An increment laid upon what a killed run left would make garbage.
    repozo.back_up(storage.data_file, storage.repository, bool(unrecorded), lock)
    files = repository.read_newest_chain(storage.repository)
    if not files:
        raise EngineFailed(f"repozo left no copy in {storage.repository}")
    if last is not None:
        _refuse_uncuttable(storage, files[-1].end, last)


def _refuse_uncuttable(storage: SiteStorage, end: int, last: int) -> None:
    """Refuse a copy of ``end`` bytes that cannot be cut behind that TID.

    Raises: NotCoherent: where that is so.
    """
    if filestorage.packed_above(storage.data_file, last):
        raise NotCoherent(
            f"{storage.data_file} was packed above the point of the TID log"
        )
    if filestorage.position_after(storage.data_file, last) > end:
        raise NotCoherent(
            f"the copy of {storage.data_file} ends before the point of the TID log"
        )


def _keep_only_newest_index(folder: Path) -> None:
    """Each index is as large as all others, and only the newest is ever used."""
    for path in sorted(folder.glob("*.index"))[:-1]:
        path.unlink()
