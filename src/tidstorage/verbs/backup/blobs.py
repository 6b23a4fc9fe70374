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
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.engines.filestorage.blob_files import blob_files, tid_of
from tidstorage.engines.filestorage.copying import SparseWriter, read_range
from tidstorage.errors import NotCoherent
from tidstorage.operation.parallel import Check
from tidstorage.operation.progress import Advance
from tidstorage.sets import layout
from tidstorage.sets.manifest import StoredFile
from tidstorage.system import durable
from tidstorage.verbs.backup.moved import SourceMoved

FORMAT_VERSION = 1
#: ZODB writes it into every blob directory that it opens.
MARKER = ".layout"


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One blob: its path in the blob directory, and what its file holds."""

    path: str
    size: int
    sha256: str

    @property
    def tid(self) -> int:
        """The transaction that wrote it."""
        number = tid_of(Path(self.path))
        if number is None:
            raise NotCoherent(f"not the path of a blob: {self.path}")
        return number


@dataclass(frozen=True, slots=True)
class BlobList:
    """What one or more lists say; ``layout`` is ZODB's name of the folders' order."""

    layout: str
    blobs: tuple[StoredBlob, ...]


def pool_path(pool: Path, sha256: str) -> Path:
    """Where the pool keeps a file of that digest."""
    return pool / sha256[:2] / sha256[2:]


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


def list_path(pool: Path, set_id: str) -> Path:
    """Where the list of what one set adds is kept."""
    return pool / "lists" / set_id


def pool_of_list(path: Path) -> Path:
    """The pool that a list is in: the way back from ``list_path``."""
    return path.parents[1]


def write_list(
    pool: Path, set_id: str, blob_directory: Path, new: Sequence[StoredBlob]
) -> Path:
    """The list of what one set adds."""
    header = {
        "version": FORMAT_VERSION,
        "layout": (blob_directory / MARKER).read_text().strip(),
    }
    lines = [json.dumps(header)]
    lines += [f"{each.sha256} {each.size} {each.path}" for each in new]
    path = list_path(pool, set_id)
    layout.make_folder(path.parent)
    durable.replace_text(path, "\n".join(lines) + "\n")
    return path


def read_lists(directory: Path, lists: Sequence[StoredFile]) -> BlobList:
    """What lists of one set say together; NotCoherent where one is not sound."""
    found: dict[str, StoredBlob] = {}
    order = "bushy"
    for stored in lists:
        try:
            content = (directory / stored.path).read_bytes()
        except OSError as error:
            raise NotCoherent(f"{stored.path}: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != stored.sha256:
            raise NotCoherent(f"{directory / stored.path} is not what was written")
        first, *lines = content.decode().splitlines()
        order = json.loads(first)["layout"]
        for line in lines:
            sha256, size, path = line.split(" ", 2)
            found[path] = StoredBlob(path, int(size), sha256)
    return BlobList(order, tuple(found.values()))
