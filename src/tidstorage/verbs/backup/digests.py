"""Files as a manifest names them: their digests are never of bytes that rotted.

What a former manifest names has the digest it had then, and is not read again;
nor is what was written this moment.  What plain repozo left is read once, and
compared with the MD5 of the source's bytes, which it took while it wrote them and
keeps beside.
"""

import hashlib
import zlib
from pathlib import Path

from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest, StoredFile
from tidstorage.sets.repozo import RepozoFile
from tidstorage.verbs.backup.copy_anew import CopyAnew

_BLOCK = 1 << 20
#: zlib's word for a gzip header.
_GZIP = 31


def describe_new_file(directory: BackupDirectory, path: Path) -> StoredFile:
    """What a manifest says of a file that we have just written ourselves."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return StoredFile(directory.relative(path), path.stat().st_size, sha256)


class KnownFiles:
    """The repozo files and indexes of the previous set, and what its manifest says.

    They do not change any more: what was said of them then holds for a new set.
    """

    def __init__(self, directory: BackupDirectory, previous: Manifest | None) -> None:
        self._directory = directory
        files = previous.files() if previous else []
        self._files = {file.path: file for file in files}
        indexes = [storage.index for storage in previous.storages] if previous else []
        self._indexes = {index.path: index for index in indexes if index is not None}

    def add(self, written: StoredFile) -> None:
        """Know of a file too that has just been written."""
        self._files[written.path] = written

    def describe_file(self, repository: Path, file: RepozoFile) -> StoredFile:
        """What a manifest says of a file that is in a repozo repository.

        Raises: CopyAnew: where the file is not what was written.
        """
        path = repository / file.name
        size = path.stat().st_size
        former = self._files.get(self._directory.relative(path))
        if former is None:
            sha256 = _read_digest(path, file)
            return StoredFile(self._directory.relative(path), size, sha256)
        if former.size != size:
            raise CopyAnew(f"{path} has {size} bytes instead of {former.size}")
        return former

    def describe_index(self, path: Path) -> StoredFile | None:
        """What a manifest says of an index of repozo's; None where it is not there."""
        if known := self._indexes.get(self._directory.relative(path)):
            return known
        return describe_new_file(self._directory, path) if path.exists() else None

    def has_index_changed(self, path: Path) -> bool:
        """Whether an index is not what the manifest says, is gone or cannot be read.

        One that the manifest does not name cannot be told to have changed.
        """
        known = self._indexes.get(self._directory.relative(path))
        if known is None:
            return False
        try:
            return describe_new_file(self._directory, path) != known
        except OSError:
            # It is made anew from the source, which is always right.
            return True


def _read_digest(path: Path, file: RepozoFile) -> str:
    """The SHA-256 of a file that repozo wrote, once its MD5 of the source fits."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    unpack = zlib.decompressobj(_GZIP) if file.is_compressed else None
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                sha256.update(block)
                md5.update(unpack.decompress(block) if unpack else block)
    except zlib.error as error:
        raise CopyAnew(f"{path} is not what repozo wrote: {error}") from error
    if md5.hexdigest() != file.md5:
        raise CopyAnew(f"{path} is not what repozo wrote")
    return sha256.hexdigest()
