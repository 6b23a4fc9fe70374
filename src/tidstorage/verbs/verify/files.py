"""The files that a set is made of, and whether each is what was written."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tidstorage.sets.blob_pool import pool_of_list, pool_path, read_lists
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest, StoredFile
from tidstorage.sets.verdicts import Depth
from tidstorage.system import presence

_BLOCK = 1 << 20
MISSING = "is missing"

#: What a file holds of a set.
FileKind = Literal["data", "index", "blob list", "TID log", "blob"]


@dataclass(frozen=True, slots=True)
class SetFile:
    """A file of a set.

    storage: id, in the set, of the storage that it belongs to; None: of none.
    """

    stored: StoredFile
    kind: FileKind
    storage: str | None

    @property
    def path(self) -> str:
        """Relative to the backup directory."""
        return self.stored.path


def list_files(made: Manifest) -> Iterator[SetFile]:
    """The files that a manifest names; the blobs are in the lists among them."""
    for storage in made.storages:
        for stored in storage.files:
            yield SetFile(stored, "data", storage.id)
        if storage.index is not None:
            yield SetFile(storage.index, "index", storage.id)
        for stored in storage.blob_lists or ():
            yield SetFile(stored, "blob list", storage.id)
    if made.tid_log is not None:
        yield SetFile(made.tid_log, "TID log", None)


def list_blobs(directory: BackupDirectory, blob_list: SetFile) -> list[SetFile]:
    """The blobs that a list names.

    Raises: NotCoherent, SetUnreadable: as `read_lists`.
    """
    pool = pool_of_list(directory.path / blob_list.path)
    blobs = []
    for blob in read_lists(directory.path, [blob_list.stored]).blobs:
        path = directory.relative(pool_path(pool, blob.sha256))
        stored = StoredFile(path, blob.size, blob.sha256)
        blobs.append(SetFile(stored, "blob", blob_list.storage))
    return blobs


def find_fault(
    directory: BackupDirectory,
    stored: StoredFile,
    depth: Depth,
    advance: Callable[[int], None],
) -> str | None:
    """What is wrong with a file, in words; None where it is what was written.

    depth: ``sizes`` alone, or every byte.  advance: called with the number of bytes
    that were dealt with.

    Raises: OSError: where the file could not be read, so that nobody can tell.
    """
    path = directory.path / stored.path
    try:
        size = path.stat().st_size
        if size != stored.size:
            return f"has {size:,} bytes instead of {stored.size:,}"
        if depth == "sizes":
            advance(size)
            return None
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
                advance(len(block))
    except presence.ABSENT:
        return MISSING
    return None if digest.hexdigest() == stored.sha256 else "is not what was written"
