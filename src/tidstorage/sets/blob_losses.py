"""Blobs that the data need and the source has lost: their copies, and the words."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidstorage.engines.filestorage.blob_files import tid_of
from tidstorage.errors import NotCoherent
from tidstorage.sets.blob_pool import StoredBlob, pool_of_list, pool_path, read_lists
from tidstorage.sets.manifest import Manifest, StoredFile, StoredStorage

#: Paths that are named one by one; of more there is only the number.
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class BlobCopy:
    """A blob of a set: where its bytes are, and what the list says of it."""

    file: Path
    blob: StoredBlob


def find_copies(
    directory: Path,
    manifests: Iterable[Manifest],
    storage_id: str,
    paths: Collection[str] | None = None,
) -> dict[str, BlobCopy]:
    """{path in the blob directory: its copy}, of the first set that has each.

    directory: the backup directory.  manifests: of the sets to look into, in the ids
    of now.  paths: which ones are wanted; None: all.  A file that is not there, or not
    of its size, is no copy; whether its bytes are right is for the caller to see.
    """
    copies: dict[str, BlobCopy] = {}
    read: set[str] = set()
    for blob_list in _lists_of(manifests, storage_id):
        if paths is not None and len(copies) == len(paths):
            break
        if blob_list.path in read:
            continue
        read.add(blob_list.path)
        for copy in _list_copies(directory, blob_list):
            path = copy.blob.path
            is_wanted = paths is None or path in paths
            if is_wanted and path not in copies and _is_there(copy):
                copies[path] = copy
    return copies


def _lists_of(manifests: Iterable[Manifest], storage_id: str) -> Iterator[StoredFile]:
    """The lists of the sets' storage, the newest first."""
    for made in manifests:
        for storage in made.storages:
            if storage.id == storage_id:
                yield from reversed(storage.blob_lists or ())


def _list_copies(directory: Path, blob_list: StoredFile) -> Iterator[BlobCopy]:
    """What a list names; nothing where it is damaged, which others tell of."""
    pool = pool_of_list(directory / blob_list.path)
    try:
        blobs = read_lists(directory, [blob_list]).blobs
    except NotCoherent:
        return
    for blob in blobs:
        yield BlobCopy(pool_path(pool, blob.sha256), blob)


def _is_there(copy: BlobCopy) -> bool:
    try:
        return copy.file.stat().st_size == copy.blob.size
    except FileNotFoundError:
        return False


def describe_losses(made: Manifest) -> Iterator[str]:
    """What the blob directories had lost when a set was made, in words."""
    for storage in made.storages:
        if lost := storage.lost_blobs:
            yield (
                f"storage {storage.id} has lost {_count(lost)} that its data need, or a"
                f" part of it; the set has the copy of an earlier one: {_name(lost)}"
            )
        if missing := storage.missing_blobs:
            yield (
                f"storage {storage.id} has lost {_count(missing)} that its data need,"
                f" and no set has a copy, so that a restore lacks it: {_name(missing)}"
            )
        if storage.undescribed_blobs:
            yield describe_undescribed(storage)


def list_missing(storage: StoredStorage, last: int | None) -> list[str]:
    """Paths of the blobs that a restore of a storage lacks, though its data need them.

    last: the last TID that is restored; None: all.
    """
    return [
        path
        for path in storage.missing_blobs or ()
        if last is None or (tid_of(Path(path)) or 0) <= last
    ]


def describe_missing(storage_id: str, missing: Collection[str]) -> str:
    """What a restore of a storage lacks, in words; missing: paths of some blobs."""
    return (
        f"storage {storage_id} lacks {_count(missing)} that its data need: lost before"
        f" the set was made, and no set had a copy: {_name(missing)}"
    )


def describe_undescribed(storage: StoredStorage) -> str:
    """That a storage has blobs which nobody backs up, in words."""
    return (
        f"storage {storage.id} has blobs ({storage.undescribed_blobs:,} records), and"
        " is described without: none of them is backed up; give it blobs = true, or"
        " its blob-dir"
    )


def _count(paths: Collection[str]) -> str:
    return f"{len(paths):,} blob{'' if len(paths) == 1 else 's'}"


def _name(paths: Collection[str]) -> str:
    named = ", ".join([*paths][:_MOST_NAMED])
    left = len(paths) - _MOST_NAMED
    return f"{named}, and {left:,} more" if left > 0 else named
