"""Which files and blobs no set needs any more once some sets are gone.

Only what a set that goes has named is ever removed.  What else is in the backup
directory stays, such as older copies that stock repozo made.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.errors import NotCoherent
from tidstorage.sets.blob_pool import pool_of_list, pool_path, read_lists
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest, StoredFile
from tidstorage.system import presence

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Freed:
    """What only the sets that go needed.

    data_files: {folder of a repozo repository: names of files}.  blobs, lists: paths
    of files.  size: bytes of all that is there, with the sets' own files.
    """

    data_files: dict[Path, set[str]]
    blobs: tuple[Path, ...]
    lists: tuple[Path, ...]
    size: int


def find_freed(
    directory: BackupDirectory, going: Sequence[Manifest], staying: Sequence[Manifest]
) -> Freed:
    """What only the sets that go need; nothing is removed yet.

    going, staying: manifests of the sets that go, and of all others.

    Raises:
      SetUnreadable: a list of blobs could not be read.
      OSError: a file could not be looked at.
    """
    needed = {stored.path for made in staying for stored in made.files()}
    data_files: dict[Path, set[str]] = {}
    for made in going:
        for storage in made.storages:
            for stored in storage.files:
                if stored.path not in needed:
                    path = directory.path / stored.path
                    data_files.setdefault(path.parent, set()).add(path.name)
    lists = {
        stored.path: stored
        for stored in _blob_lists(going)
        if stored.path not in needed
    }
    blobs = _find_unneeded_blobs(directory, [*lists.values()], _blob_lists(staying))
    list_paths = tuple(directory.path / path for path in lists)
    paths = [
        *(folder / name for folder, names in data_files.items() for name in names),
        *blobs,
        *list_paths,
        *(directory.path / made.tid_log.path for made in going if made.tid_log),
        *(directory.path / made.description.path for made in going if made.description),
    ]
    return Freed(data_files, blobs, list_paths, sum(map(_size, paths)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except presence.ABSENT:
        # A former run was killed after it had removed it.
        return 0


def _blob_lists(sets: Sequence[Manifest]) -> list[StoredFile]:
    """All lists of blobs that the sets name; a list that several name, repeatedly."""
    return [
        stored
        for made in sets
        for storage in made.storages
        for stored in storage.blob_lists or ()
    ]


def _find_unneeded_blobs(
    directory: BackupDirectory,
    going: Sequence[StoredFile],
    staying: Sequence[StoredFile],
) -> tuple[Path, ...]:
    """The blobs that lists name that go, and no list that stays."""
    unneeded: dict[Path, set[Path]] = {}
    for blob_list in going:
        pool = _pool(directory, blob_list)
        try:
            unneeded.setdefault(pool, set()).update(_blobs_of(directory, blob_list))
        except NotCoherent as error:
            if presence.is_there(directory.path / blob_list.path):
                logger.warning("blobs that only it names are not freed: %s", error)
    for blob_list in {stored.path: stored for stored in staying}.values():
        pool = _pool(directory, blob_list)
        if not unneeded.get(pool):
            continue
        try:
            unneeded[pool].difference_update(_blobs_of(directory, blob_list))
        except NotCoherent as error:
            # What it names is needed, and nobody knows what that is.
            del unneeded[pool]
            logger.warning("no blob in %s is freed: %s", pool, error)
    return tuple(sorted(path for paths in unneeded.values() for path in paths))


def _blobs_of(directory: BackupDirectory, blob_list: StoredFile) -> Iterator[Path]:
    """Where the blobs are that a list names.

    Raises: NotCoherent, SetUnreadable: as `read_lists`.
    """
    pool = _pool(directory, blob_list)
    for blob in read_lists(directory.path, [blob_list]).blobs:
        yield pool_path(pool, blob.sha256)


def _pool(directory: BackupDirectory, blob_list: StoredFile) -> Path:
    return pool_of_list(directory.path / blob_list.path)
