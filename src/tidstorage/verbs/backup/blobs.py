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
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Storage
from tidstorage.coherence import tid
from tidstorage.engines.filestorage.blob_files import (
    blob_files,
    find_other_folders,
    read_layout,
)
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
from tidstorage.verbs.backup.lost_blobs import NeededBlobs, find_previous
from tidstorage.verbs.backup.prepare import Preparation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredBlobs:
    """The blobs of a storage that the pool holds, and the lists that name them.

    lost: paths of those among them that the blob directory has not any more.  missing:
    paths of those that the data need and nobody has.
    """

    lists: tuple[StoredFile, ...]
    blobs: Sequence[StoredBlob]
    lost: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _NewBlob:
    """A blob that is to be copied: its file, and its path in the blob directory.

    sha256: of a file in a pool, what it should have; None of one that is the original.
    """

    file: Path
    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """The blob directory of a storage, what is stored of it, and what is to be.

    lost: paths of what is stored, or is to be copied from a pool, since the blob
    directory has lost it.  missing: paths of what nobody has.
    """

    storage: Storage
    blob_directory: Path
    stored: StoredBlobs
    new: Sequence[_NewBlob]
    lost: Sequence[str]
    missing: Sequence[str]


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
      FileUnreadable: a blob directory cannot be read, or has an unknown layout.
      OSError: as the system says.
    """
    sources = [
        _examine(preparation, storage, copies[storage.id], vector[storage.id])
        for storage in preparation.cluster.storages
        if storage.blob_directory is not None
    ]
    total = sum(blob.size for source in sources for blob in source.new)
    with operation.phase("copy blobs", total) as phase:

        def copy(source: _Source, check: Check) -> StoredBlobs:
            with phase.item(source.storage.id):
                return _copy_source(preparation, source, phase.advance, check)

        results = parallel.run(preparation.cluster.backup.jobs, copy, sources)
    return {
        source.storage.id: stored
        for source, stored in zip(sources, results, strict=True)
    }


def _examine(
    preparation: Preparation, storage: Storage, copy: StorageCopy, last: int
) -> _Source:
    """What a blob directory has and has not, compared with what is stored."""
    directory = storage.blob_directory
    assert directory is not None
    layout = read_layout(directory)
    stored = _find_stored(preparation, storage, copy, layout)
    needed = NeededBlobs(
        preparation,
        storage,
        copy,
        layout=layout,
        last=last,
        listed=stored.blobs if stored.lists else None,
    )
    new = _find_new(directory, last, needed)
    losses = needed.find_losses()
    for path in losses.found:
        file = directory / path
        with _noticing_disappearance(file):
            new.append(_NewBlob(file, path, file.stat().st_size))
    new = [blob for blob in new if blob.path not in losses.copies]
    new += [
        _NewBlob(copy.file, path, copy.blob.size, copy.blob.sha256)
        for path, copy in losses.copies.items()
    ]
    if not stored.lists:
        for folder in find_other_folders(directory):
            logger.warning("%s is left alone: ZODB never looks into it", folder)
    lost = [*losses.listed, *losses.copies]
    return _Source(storage, directory, stored, new, lost, losses.missing)


def _find_stored(
    preparation: Preparation, storage: Storage, copy: StorageCopy, layout: str
) -> StoredBlobs:
    """What the lists of the previous set name, where they can be continued.

    They end with the chain of repozo files they belong to: after a pack, blobs are
    gone; after a restore, a path may come to mean another blob; in another layout, each
    blob has another path.

    Raises: CopyAnew: where a list is damaged, or could not be read; full copies begin
    new lists.
    """
    previous = find_previous(preparation, storage)
    if previous is None or copy.kind == "full" or not previous.blob_lists:
        return StoredBlobs((), ())
    lists = previous.blob_lists
    try:
        listed = read_lists(preparation.directory.path, lists)
    except (NotCoherent, SetUnreadable) as error:
        raise CopyAnew(str(error)) from error
    if listed.layout != layout:
        return StoredBlobs((), ())
    return StoredBlobs(lists, listed.blobs)


def _find_new(blob_directory: Path, last: int, needed: NeededBlobs) -> list[_NewBlob]:
    """The blobs up to the TID ``last`` that are not listed yet.

    needed: told of every blob that is there.

    Raises: CopyAnew: where one disappears meanwhile: then a pack is under way.
    """
    prefix = len(str(blob_directory)) + 1
    new = []
    for file, number in blob_files(blob_directory):
        path = str(file)[prefix:]
        if number > last:
            # It may be of a transaction that is just being aborted.
            continue
        try:
            size = file.stat().st_size
        except FileNotFoundError as error:
            if needed.is_listed(path):
                continue
            raise CopyAnew(f"{file} disappeared: {error}") from error
        needed.note_seen(path, size)
        if not needed.is_listed(path):
            new.append(_NewBlob(file, path, size))
    return new


def _copy_source(
    preparation: Preparation, source: _Source, advance: Advance, check: Check
) -> StoredBlobs:
    """Copy what is new of a blob directory, and write the list of it."""
    pool = preparation.directory.pool(source.storage.id)
    copied, rotten = [], []
    for blob, stored in zip(
        source.new, _copy_all(source.new, pool, advance, check), strict=True
    ):
        if blob.sha256 in (None, stored.sha256):
            copied.append(stored)
        else:
            rotten.append(blob.path)
    path = write_list(pool, preparation.set_id, source.blob_directory, copied)
    return StoredBlobs(
        (*source.stored.lists, describe_new_file(preparation.directory, path)),
        [*source.stored.blobs, *copied],
        tuple(sorted({*source.lost} - {*rotten})),
        tuple(sorted([*source.missing, *rotten])),
    )


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
