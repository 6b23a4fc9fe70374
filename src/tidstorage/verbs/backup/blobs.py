"""Fourth phase of a backup: the blobs that K covers.

A blob file never changes once it is committed, so that one copy serves every
set.  It is a copy, not a hard link: a link would share the fate of the original
when that is damaged in place.  It is read and written rather than cloned by the
file system, since its digest is needed anyhow, and is its name in the pool:
``<pool>/<2 digits>/<62 digits>``.

Which file is which blob stands in lists: one that a full copy begins, and one
more for each copy after, with only what is new; ``<pool>/lists/<set id>``.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Storage
from tidstorage.coherence import tid
from tidstorage.engines.filestorage.blob_files import blob_files
from tidstorage.engines.filestorage.copying import SparseWriter, read_range
from tidstorage.errors import NotCoherent, SetUnreadable
from tidstorage.operation import parallel
from tidstorage.operation.parallel import Check
from tidstorage.operation.progress import Advance, Operation
from tidstorage.sets.blob_pool import StoredBlob, pool_path, read_lists, write_list
from tidstorage.sets.manifest import StoredFile
from tidstorage.system import durable, private_files
from tidstorage.verbs.backup.copy_anew import CopyAnew
from tidstorage.verbs.backup.copying import StorageCopy
from tidstorage.verbs.backup.digests import describe_new_file
from tidstorage.verbs.backup.prepare import Preparation


@dataclass(frozen=True, slots=True)
class StoredBlobs:
    """The blobs of a storage that the pool holds, and the lists that name them."""

    lists: tuple[StoredFile, ...]
    blobs: Sequence[StoredBlob]


@dataclass(frozen=True, slots=True)
class _NewBlob:
    """A blob that is to be copied: its file, and its path in the blob directory."""

    file: Path
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class _Source:
    """The blob directory of a storage, what is stored of it, and what is to be."""

    storage: Storage
    blob_directory: Path
    stored: StoredBlobs
    new: Sequence[_NewBlob]


def copy_blobs(
    preparation: Preparation,
    copies: Mapping[str, StorageCopy],
    vector: tid.Vector,
    operation: Operation,
) -> dict[str, StoredBlobs]:
    """{storage id: its blobs}, of the storages that have a blob directory.

    vector: the last TID whose blobs belong to the set, of every storage.

    Raises:
      CopyAnew: a blob disappears meanwhile, or a list of blobs is damaged.
      OSError: as the system says.
    """
    directory = preparation.directory
    sources = []
    for storage in preparation.cluster.storages:
        if storage.blob_directory is not None:
            stored = _find_stored(preparation, storage, copies[storage.id])
            last = vector[storage.id]
            new = _find_new(storage.blob_directory, last, stored.blobs)
            sources.append(_Source(storage, storage.blob_directory, stored, new))
    total = sum(blob.size for source in sources for blob in source.new)
    with operation.phase("copy blobs", total) as phase:

        def copy(source: _Source, check: Check) -> StoredBlobs:
            pool = directory.pool(source.storage.id)
            with phase.item(source.storage.id):
                copied = _copy_all(source.new, pool, phase.advance, check)
            path = write_list(pool, preparation.set_id, source.blob_directory, copied)
            return StoredBlobs(
                (*source.stored.lists, describe_new_file(directory, path)),
                [*source.stored.blobs, *copied],
            )

        results = parallel.run(preparation.cluster.backup.jobs, copy, sources)
    return {
        source.storage.id: stored
        for source, stored in zip(sources, results, strict=True)
    }


def _find_stored(
    preparation: Preparation, storage: Storage, copy: StorageCopy
) -> StoredBlobs:
    """What the lists of the previous set name, where they can be continued.

    They end with the chain of repozo files they belong to: after a pack, blobs are
    gone; after a restore, a path may come to mean another blob.

    Raises: CopyAnew: where a list is damaged, or could not be read; full copies begin
    new lists.
    """
    previous = preparation.previous
    if (
        previous is None
        or previous.point.timeline != preparation.timeline
        or copy.kind == "full"
        or storage.id not in {stored.id for stored in previous.storages}
    ):
        return StoredBlobs((), ())
    lists = previous.storage(storage.id).blob_lists or ()
    try:
        listed = read_lists(preparation.directory.path, lists)
    except (NotCoherent, SetUnreadable) as error:
        raise CopyAnew(str(error)) from error
    return StoredBlobs(lists, listed.blobs)


def _find_new(
    blob_directory: Path, last: int, stored: Sequence[StoredBlob]
) -> list[_NewBlob]:
    """The blobs up to the TID ``last`` that are not stored.

    Raises: CopyAnew: where one disappears meanwhile: then a pack is under way.
    """
    stored_paths = {blob.path for blob in stored}
    new = []
    for file, number in blob_files(blob_directory):
        path = str(file.relative_to(blob_directory))
        if number <= last and path not in stored_paths:
            with _noticing_disappearance(file):
                new.append(_NewBlob(file, path, file.stat().st_size))
    return new


def _copy_all(
    new: Sequence[_NewBlob], pool: Path, advance: Advance, check: Check
) -> list[StoredBlob]:
    private_files.make_folder(pool)
    copied = []
    for blob in new:
        check()
        with _noticing_disappearance(blob.file):
            copied.append(_copy(blob, pool, advance, check))
    return copied


@contextlib.contextmanager
def _noticing_disappearance(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise CopyAnew(f"{file} disappeared: {error}") from error


def _copy(blob: _NewBlob, pool: Path, advance: Advance, check: Check) -> StoredBlob:
    """Copy one blob into the pool; it is read once."""
    digest = hashlib.sha256()
    beside = pool / ".new"
    with (
        blob.file.open("rb") as original,
        os.fdopen(private_files.create(beside), "wb") as opened,
    ):
        target = SparseWriter(opened.fileno())
        for block in read_range(original.fileno(), 0, blob.size):
            check()
            digest.update(block)
            target.write(block)
            advance(len(block))
        target.finish()
        os.fsync(opened.fileno())
    path = pool_path(pool, digest.hexdigest())
    private_files.make_folder(path.parent)
    beside.replace(path)
    durable.sync_folder(path.parent)
    return StoredBlob(blob.path, blob.size, digest.hexdigest())
