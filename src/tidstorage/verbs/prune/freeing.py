"""What nothing needs any more once sets are gone: files and blobs, and their bytes.

Only what a set that goes has named is ever removed; what else is in the directory,
such as copies of before, that stock repozo made, stays.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.errors import NotCoherent
from tidstorage.sets.blobs import pool_of_list, pool_path, read_lists
from tidstorage.sets.manifest import Manifest, StoredFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Freed:
    """Of some sets that go, what no other set needs.

    data_files: {folder of a repozo repository: names}.  blobs, lists: paths.  All
    that is there, with the sets' own files, takes ``size`` bytes.
    """

    data_files: dict[Path, set[str]]
    blobs: tuple[Path, ...]
    lists: tuple[Path, ...]
    size: int


def find_freed(
    directory: Path, gone: Sequence[Manifest], kept: Sequence[Manifest]
) -> Freed:
    """What the sets that go leave; nothing is removed yet."""
    needed = {each.path for one in kept for each in one.files()}
    data_files: dict[Path, set[str]] = {}
    paths: list[Path] = []
    for one in gone:
        for storage in one.storages:
            for each in storage.files:
                path = directory / each.path
                if each.path not in needed:
                    data_files.setdefault(path.parent, set()).add(path.name)
    lists = {each.path: each for each in _lists(gone) if each.path not in needed}
    unneeded = _unneeded_blobs(directory, [*lists.values()], _lists(kept))
    list_paths = tuple(directory / each for each in lists)
    paths = [
        *(folder / name for folder, names in data_files.items() for name in names),
        *unneeded,
        *list_paths,
        *(directory / one.tid_log.path for one in gone if one.tid_log),
    ]
    return Freed(data_files, unneeded, list_paths, sum(map(_size, paths)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # A former run was killed after it had removed it.
        return 0


def _lists(found: Sequence[Manifest]) -> list[StoredFile]:
    return [
        each
        for one in found
        for storage in one.storages
        for each in storage.blob_lists or ()
    ]


def _unneeded_blobs(
    directory: Path, gone: Sequence[StoredFile], kept: Sequence[StoredFile]
) -> tuple[Path, ...]:
    """The blobs that the lists name that go, and none that stays."""
    unneeded: dict[Path, set[Path]] = {}
    for each in gone:
        try:
            unneeded.setdefault(_pool(directory, each), set()).update(
                _blobs_of(directory, each)
            )
        except NotCoherent as error:
            if (directory / each.path).exists():
                logger.warning("blobs that only it names are not freed: %s", error)
    for each in {one.path: one for one in kept}.values():
        pool = _pool(directory, each)
        if not unneeded.get(pool):
            continue
        try:
            unneeded[pool].difference_update(_blobs_of(directory, each))
        except NotCoherent as error:
            # What it names is needed, and nobody knows what that is.
            del unneeded[pool]
            logger.warning("no blob in %s is freed: %s", pool, error)
    return tuple(sorted(path for paths in unneeded.values() for path in paths))


def _blobs_of(directory: Path, stored: StoredFile) -> Iterator[Path]:
    pool = _pool(directory, stored)
    for each in read_lists(directory, [stored]).blobs:
        yield pool_path(pool, each.sha256)


def _pool(directory: Path, stored: StoredFile) -> Path:
    return pool_of_list(directory / stored.path)
