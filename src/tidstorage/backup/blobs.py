"""Third phase of a backup: the blobs that K covers.

A blob file never changes once it is committed, so that one copy serves every
set.  It is a copy, not a hard link: a link would share the fate of the original
when that is damaged in place.  It is read and written rather than cloned by the
file system, since its digest is needed anyhow, and is its name in the pool:
``<pool>/<2 digits>/<62 digits>``.

Which file is which blob stands in lists: one that a full copy begins, and one
more for each copy after, with only what is new; ``<pool>/lists/<set id>``.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage import durable
from tidstorage.backup import layout
from tidstorage.backup.moved import SourceMoved
from tidstorage.engines.filestorage.blob_files import blob_files, tid_of
from tidstorage.errors import NotCoherent
from tidstorage.manifest import StoredFile

FORMAT_VERSION = 1
#: ZODB writes it into every blob directory that it opens.
MARKER = ".layout"
_BLOCK = 1 << 20


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


def copy_covered(
    blob_directory: Path, pool: Path, last_tid: int, known: Sequence[StoredBlob]
) -> Iterator[StoredBlob]:
    """Copy the blobs up to ``last_tid`` that are not ``known``, and yield them.

    SourceMoved where one disappears meanwhile: then a pack is under way.
    """
    have = {each.path for each in known}
    layout.make_folder(pool)
    for path, number in blob_files(blob_directory):
        relative = str(path.relative_to(blob_directory))
        if number <= last_tid and relative not in have:
            try:
                yield _copy(path, relative, pool)
            except FileNotFoundError as error:
                raise SourceMoved(f"{path} disappeared: {error}") from error


def _copy(source: Path, relative: str, pool: Path) -> StoredBlob:
    digest = hashlib.sha256()
    size = 0
    beside = pool / ".new"
    with (
        source.open("rb") as original,
        os.fdopen(layout.create_private(beside), "wb") as copy,
    ):
        while block := original.read(_BLOCK):
            digest.update(block)
            copy.write(block)
            size += len(block)
        copy.flush()
        os.fsync(copy.fileno())
    target = pool_path(pool, digest.hexdigest())
    layout.make_folder(target.parent)
    beside.replace(target)
    durable.sync_folder(target.parent)
    return StoredBlob(relative, size, digest.hexdigest())


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
