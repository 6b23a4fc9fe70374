"""Does a present Data.fs begin with exactly what a set holds?  Then it need not
be put together anew: cutting its tail off is the same.

FileStorage only ever appends, so that this is the rule after a wrong delete, and
not after a pack or a damage.  repozo noted the MD5 of every stretch of the source
as it read it; the present file is read once and compared with that.  Nothing of
the set itself is read, and nothing is written.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from tidstorage.engines.filestorage import DataFile
from tidstorage.errors import EngineFailed, FileUnreadable
from tidstorage.operation.progress import Advance
from tidstorage.sets import repozo
from tidstorage.sets.manifest import Manifest, StoredStorage
from tidstorage.sets.repozo import RepozoFile
from tidstorage.verbs.restore.target import Target

_BLOCK = 1 << 20


def may_begin_with(stored: StoredStorage, data_file: Path) -> bool:
    """Whether a Data.fs may begin with what the set holds, told without reading it all.

    By its length, and by the transaction that ends where the set's copy ends.
    """
    try:
        with DataFile(data_file) as opened:
            if opened.size() < stored.size or not stored.ranges:
                return False
            last = next(opened.backward(stored.size), None)
    except FileUnreadable:
        return False
    return (last.tid if last else 0) == stored.ranges[-1].last


def possible(manifest: Manifest, targets: Mapping[str, Target]) -> list[str]:
    """Ids of the storages of whose present files that may be so."""
    return [
        storage
        for storage, target in targets.items()
        if may_begin_with(manifest.storage(storage), target.data_file)
    ]


def begins_with(
    directory: Path, stored: StoredStorage, data_file: Path, advance: Advance
) -> bool:
    """Whether a present Data.fs begins with exactly what the set holds.

    directory: the backup directory.  advance: told the bytes read; what it raises ends
    the work.

    Raises: OSError: where the file cannot be read.
    """
    parts = _parts(directory, stored)
    if not parts or not may_begin_with(stored, data_file):
        return False
    descriptor = os.open(data_file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return all(_holds(descriptor, part, advance) for part in parts)
    finally:
        os.close(descriptor)


def _parts(directory: Path, stored: StoredStorage) -> list[RepozoFile]:
    """What repozo noted of the set's files; none where that is not of just them."""
    paths = [directory / stored_file.path for stored_file in stored.files]
    try:
        chain = repozo.read_chain_until(
            paths[-1].parent, paths[-1].name.partition(".")[0]
        )
    except EngineFailed:
        return []
    if [file.name for file in chain] != [file.name for file in paths]:
        return []
    return list(chain) if chain[-1].end == stored.size else []


def _holds(descriptor: int, file: RepozoFile, advance: Advance) -> bool:
    digest = hashlib.md5(usedforsecurity=False)
    position = file.start
    while position < file.end:
        block = os.pread(descriptor, min(_BLOCK, file.end - position), position)
        if not block:
            return False
        digest.update(block)
        position += len(block)
        advance(len(block))
    return digest.hexdigest() == file.md5
