"""Files as a manifest names them: their digests are never of bytes that rotted.

What a former manifest names has the digest it had then, and is not read again;
nor is what was written this moment.  What plain repozo left is read once, and
compared with the MD5 of the source's bytes, which it took while it wrote them and
keeps beside.
"""

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path

from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest, StoredFile
from tidstorage.sets.repozo import Part
from tidstorage.verbs.backup.moved import SourceMoved

_BLOCK = 1 << 20
#: zlib's word for a gzip header.
_GZIP = 31


def named(previous: Manifest | None) -> dict[str, StoredFile]:
    """{path: the file}, of all that a manifest names: they do not change any more."""
    return {each.path: each for each in previous.files()} if previous else {}


def stored_part(
    directory: BackupDirectory,
    folder: Path,
    part: Part,
    known: Mapping[str, StoredFile],
) -> StoredFile:
    """A file of a repozo repository; SourceMoved where it is not what was written."""
    path = folder / part.name
    relative = directory.relative(path)
    size = path.stat().st_size
    former = known.get(relative)
    if former is None:
        return StoredFile(relative, size, _digest(path, part))
    if former.size != size:
        raise SourceMoved(f"{path} has {size} bytes instead of {former.size}")
    return former


def _digest(path: Path, part: Part) -> str:
    whole, source = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    unpack = zlib.decompressobj(_GZIP) if part.is_compressed else None
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                whole.update(block)
                source.update(unpack.decompress(block) if unpack else block)
    except zlib.error as error:
        raise SourceMoved(f"{path} is not what repozo wrote: {error}") from error
    if source.hexdigest() != part.md5:
        raise SourceMoved(f"{path} is not what repozo wrote")
    return whole.hexdigest()


def stored_file(directory: BackupDirectory, path: Path) -> StoredFile:
    """A file that we have just written ourselves."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return StoredFile(directory.relative(path), path.stat().st_size, sha256)


def is_unchanged(directory: BackupDirectory, known: StoredFile) -> bool:
    """Whether a file is still what a manifest says of it."""
    try:
        return stored_file(directory, directory.path / known.path) == known
    except FileNotFoundError:
        return False


def indexes(previous: Manifest | None) -> dict[str, StoredFile]:
    """{path: repozo's index}, of all that a manifest names."""
    found = [each.index for each in previous.storages] if previous else []
    return {each.path: each for each in found if each is not None}


def stored_index(
    directory: BackupDirectory, part: Path, previous: Manifest | None
) -> StoredFile | None:
    """The index that repozo keeps beside a file; None where there is none.

    As a former manifest named it, where one did: it does not change any more.
    """
    path = part.with_suffix(".index")
    relative = directory.relative(path)
    if known := indexes(previous).get(relative):
        return known
    return stored_file(directory, path) if path.exists() else None
