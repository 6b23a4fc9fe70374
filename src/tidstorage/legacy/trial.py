"""The last backup, put together for a trial and compared with the live files."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidstorage.engines import filestorage
from tidstorage.legacy import copies
from tidstorage.legacy import site as sites
from tidstorage.legacy.repozo import Repozo
from tidstorage.legacy.site import Site, SiteStorage
from tidstorage.operation import lock
from tidstorage.system import disks

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """One storage's copy beside its live file, which may have grown since.

    size, live_size: bytes of the copy and of the file.  position: where a restore
    would cut the copy, the first byte to drop; None without a TID log.  different:
    the first byte that is not the same in both, or the end of the file where that is
    shorter; None where the file begins with the copy.
    """

    storage: str
    size: int
    live_size: int
    position: int | None
    different: int | None


def compare(site: Site, repozo: Repozo, tid_log: Path | None) -> Iterator[Comparison]:
    """Put each storage's copy together in turn, and compare; nothing is changed.

    Servers may run.  The copies go to the folder for temporary files (TMPDIR), and
    are removed.

    Raises: what `recover.recover` raises, but not ClusterRunning.
    """
    with lock.hold_file(site.lock_file, "tidstorage_repozo --recover_check") as held:
        second = sites.read_last_timestamp(site)
        ids = [storage.id for storage in site.storages]
        vector = {} if tid_log is None else sites.read_vector(tid_log, ids)
        for storage in site.storages:
            yield _compare_storage(
                storage, repozo, second=second, last=vector.get(storage.id), lock=held
            )


def _compare_storage(
    storage: SiteStorage, repozo: Repozo, *, second: str, last: int | None, lock: int
) -> Comparison:
    with tempfile.TemporaryDirectory(prefix="tidstorage-check-") as folder:
        disks.refuse_lack(
            {Path(folder): copies.find_files(storage, second)[-1].end},
            "a trial",
            "Make room there, or name another folder with TMPDIR.",
        )
        copy = Path(folder) / storage.data_file.name
        copies.put_together(storage, repozo, second=second, output=copy, lock=lock)
        position = None
        if last is not None:
            copies.refuse_uncuttable(storage, copy, last)
            position = filestorage.position_after(copy, last)
        return Comparison(
            storage.id,
            copy.stat().st_size,
            storage.data_file.stat().st_size,
            position,
            _find_difference(copy, storage.data_file),
        )


def _find_difference(copy: Path, live: Path) -> int | None:
    position = 0
    with copy.open("rb") as of_copy, live.open("rb") as of_live:
        while block := of_copy.read(_BLOCK):
            beside = of_live.read(len(block))
            if block != beside:
                return position + _count_common(block, beside)
            position += len(block)
    return None


def _count_common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return number
    return min(len(one), len(other))
