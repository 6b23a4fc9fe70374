"""The last backup put together for a trial, and compared with the live files."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidstorage.engines import filestorage
from tidstorage.legacy import recover, site
from tidstorage.legacy.repozo import Repozo
from tidstorage.legacy.site import Site, SiteStorage
from tidstorage.operation import lock
from tidstorage.system import disks

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """One storage's copy beside its file, which may have grown since.

    size, live: bytes of the copy and of the file.  position: where a restore would
    cut the copy; None without a TID log.  different: the first byte that is not the
    same in both, or the end of the shorter file; None where the file only goes on.
    """

    storage: str
    size: int
    live: int
    position: int | None
    different: int | None


def compare(site_: Site, repozo: Repozo, tid_log: Path | None) -> Iterator[Comparison]:
    """Try each storage in turn; nothing is left and nothing is changed.

    Servers may run.  The copies go to the folder for temporary files (TMPDIR).
    Raises what a restore would, besides ClusterRunning.
    """
    with lock.hold_file(site_.lock_file, "tidstorage_repozo --recover_check") as held:
        second = site.last_timestamp(site_)
        ids = [each.id for each in site_.storages]
        vector = {} if tid_log is None else site.vector_of(tid_log, ids)
        for storage in site_.storages:
            yield _try(storage, repozo, second, vector.get(storage.id), held)


def _try(
    storage: SiteStorage, repozo: Repozo, second: str, last: int | None, held: int
) -> Comparison:
    parts = recover.parts_of(storage, second)
    with tempfile.TemporaryDirectory(prefix="tidstorage-check-") as folder:
        disks.refuse_lack(
            {Path(folder): parts[-1].end},
            "a trial",
            "Make room there, or name another folder with TMPDIR.",
        )
        copy = Path(folder) / storage.data_file.name
        repozo.recover(storage.repository, second, copy, held)
        recover.refuse_damaged(storage, parts, copy)
        position = None
        if last is not None:
            recover.refuse_short(storage, copy, last)
            position = filestorage.position_after(copy, last)
        return Comparison(
            storage.id,
            copy.stat().st_size,
            storage.data_file.stat().st_size,
            position,
            _first_difference(copy, storage.data_file),
        )


def _first_difference(copy: Path, live: Path) -> int | None:
    position = 0
    with copy.open("rb") as one, live.open("rb") as other:
        while block := one.read(_BLOCK):
            same = other.read(len(block))
            if block != same:
                return position + _common(block, same)
            position += len(block)
    return None


def _common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return number
    return min(len(one), len(other))
