"""What a set is made of, and whether each file of it is what was written."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.errors import NotCoherent
from tidstorage.sets.blobs import pool_of_list, pool_path, read_lists
from tidstorage.sets.manifest import Manifest, StoredFile
from tidstorage.sets.verdicts import Depth

_BLOCK = 1 << 20
MISSING = "is missing"

#: What a file of a set is to it.
Kind = Literal["data", "index", "blob list", "TID log", "blob", "manifest", "set"]


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a set; storage: whose it is, by its id in the set."""

    stored: StoredFile
    kind: Kind
    storage: str | None


def named(made: Manifest) -> Iterator[Item]:
    """The files that the manifest names."""
    for storage in made.storages:
        for each in storage.files:
            yield Item(each, "data", storage.id)
        if storage.index is not None:
            yield Item(storage.index, "index", storage.id)
        for each in storage.blob_lists or ():
            yield Item(each, "blob list", storage.id)
    if made.tid_log is not None:
        yield Item(made.tid_log, "TID log", None)


def stored_blobs(directory: Path, lists: Sequence[Item]) -> Iterator[Item]:
    """The blobs that lists name; one that is not sound names none."""
    for each in lists:
        pool = pool_of_list(directory / each.stored.path)
        try:
            held = read_lists(directory, [each.stored]).blobs
        except NotCoherent:
            continue
        for blob in held:
            path = pool_path(pool, blob.sha256).relative_to(directory)
            stored = StoredFile(str(path), blob.size, blob.sha256)
            yield Item(stored, "blob", each.storage)


def fault(
    directory: Path, stored: StoredFile, depth: Depth, advance: Callable[[int], None]
) -> str | None:
    """What is wrong with a file, in words; None where it is what was written.

    advance: called with the number of bytes that were dealt with.
    """
    path = directory / stored.path
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
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if digest.hexdigest() == stored.sha256 else "is not what was written"
