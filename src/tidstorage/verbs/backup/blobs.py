"""Third phase of a backup: the blobs that K covers.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.engines.filestorage.blob_files import blob_files
from tidstorage.engines.filestorage.copying import SparseWriter, read_range
from tidstorage.operation.parallel import Check
from tidstorage.operation.progress import Advance
from tidstorage.sets import layout
from tidstorage.sets.blobs import StoredBlob, pool_path
from tidstorage.system import durable
from tidstorage.verbs.backup.moved import SourceMoved


@dataclass(frozen=True, slots=True)
class NewBlob:
    """A blob that is to be copied: its file, and its path in the blob directory."""

    file: Path
    path: str
    size: int


def not_known(
    blob_directory: Path, last_tid: int, known: Sequence[StoredBlob]
) -> list[NewBlob]:
    """The blobs up to ``last_tid`` that are not ``known``.

    SourceMoved where one disappears meanwhile: then a pack is under way.
    """
    have = {each.path for each in known}
    found = []
    for file, number in blob_files(blob_directory):
        path = str(file.relative_to(blob_directory))
        if number <= last_tid and path not in have:
            with _refusing_disappearance(file):
                found.append(NewBlob(file, path, file.stat().st_size))
    return found


def copy(
    new: Sequence[NewBlob], pool: Path, advance: Advance, check: Check
) -> list[StoredBlob]:
    """Copy blobs into a pool; each is read once.

    advance: told the bytes.  SourceMoved as above, OSError, what ``check`` raises.
    """
    layout.make_folder(pool)
    stored = []
    for each in new:
        check()
        with _refusing_disappearance(each.file):
            stored.append(_copy(each, pool, advance, check))
    return stored


@contextlib.contextmanager
def _refusing_disappearance(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SourceMoved(f"{file} disappeared: {error}") from error


def _copy(new: NewBlob, pool: Path, advance: Advance, check: Check) -> StoredBlob:
    digest = hashlib.sha256()
    beside = pool / ".new"
    with (
        new.file.open("rb") as original,
        os.fdopen(layout.create_private(beside), "wb") as opened,
    ):
        copied = SparseWriter(opened.fileno())
        for block in read_range(original.fileno(), 0, new.size):
            check()
            digest.update(block)
            copied.write(block)
            advance(len(block))
        copied.finish()
        os.fsync(opened.fileno())
    target = pool_path(pool, digest.hexdigest())
    layout.make_folder(target.parent)
    beside.replace(target)
    durable.sync_folder(target.parent)
    return StoredBlob(new.path, new.size, digest.hexdigest())
