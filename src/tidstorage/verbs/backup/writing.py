"""One more file of a repozo repository, as repozo itself would write it.

``YYYY-mm-dd-HH-MM-SS.fs`` (a full copy) or ``.deltafs``, with a ``z`` where it is
gzip; beside it ``.index``, the Data.fs.index of that moment; and a line in the
``.dat`` of the full copy: name, first byte, end, MD5 of those bytes.  In that
order, so that what a killed run leaves is never taken for more than it is.

The source is read once: its MD5 and the SHA-256 of what is written are taken on
the way.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tidstorage.engines.filestorage import DataFile, index
from tidstorage.engines.filestorage.copying import SparseWriter, read_range
from tidstorage.errors import EngineFailed
from tidstorage.operation.parallel import Check
from tidstorage.operation.progress import Advance
from tidstorage.sets import layout, repozo
from tidstorage.sets.compression import compressing
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import StoredFile
from tidstorage.sets.repozo import Part
from tidstorage.system import durable


class _Digesting:
    """Takes the SHA-256 and the length of what is written to a sparse file."""

    def __init__(self, target: SparseWriter) -> None:
        self._target = target
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._target.write(bytes(data))

    def flush(self) -> None:
        """Nothing is held back."""


@dataclass(frozen=True, slots=True)
class Addition:
    """What is to be added to a repozo repository.

    source: the Data.fs, copied up to the boundary ``end``.  folder: the repository.
    chain: the files to go on from; none for a full copy.  former_index: of the last
    of them, where it can be gone on from.
    """

    source: DataFile
    end: int
    folder: Path
    chain: Sequence[Part]
    former_index: Path | None
    compress: bool

    @property
    def start(self) -> int:
        """The first byte of the Data.fs that is not in the repository yet."""
        return self.chain[-1].end if self.chain else 0


def add(
    directory: BackupDirectory, addition: Addition, advance: Advance, check: Check
) -> tuple[Part, StoredFile]:
    """Copy what a repository has not of a Data.fs yet.

    advance: told the bytes of the source.  check: called often; what it raises ends
    the copy.

    Raises:
      EngineFailed: a file of that name exists.
      OSError: as the system says.
    """
    source, chain, compress = addition.source, addition.chain, addition.compress
    start, end, folder = addition.start, addition.end, addition.folder
    suffix = (".deltafs" if chain else ".fs") + ("z" if compress else "")
    second = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime())
    path = folder / (second + suffix)
    if path.exists():
        raise EngineFailed(f"{path} exists already", "Run the backup again.")
    complete_index = index.complete(source, end, addition.former_index, check)
    with _placed(path.with_suffix(".index")):
        complete_index.save(end, str(folder / repozo.TEMPORARY))
    md5 = hashlib.md5(usedforsecurity=False)
    with _placed(path) as descriptor:
        sparse = SparseWriter(descriptor)
        target = _Digesting(sparse)
        raw = cast(BinaryIO, target)
        with compressing(raw) if compress else contextlib.nullcontext(raw) as output:
            for block in read_range(source.descriptor, start, end - start):
                check()
                md5.update(block)
                output.write(block)
                advance(len(block))
        sparse.finish()
    part = Part(path.name, start, end, md5.hexdigest())
    _record(folder, chain, part)
    size, sha256 = sparse.tell(), target.sha256.hexdigest()
    return part, StoredFile(directory.relative(path), size, sha256)


@contextlib.contextmanager
def _placed(path: Path) -> Iterator[int]:
    """A descriptor of a new file that gets its name when all of it is on disk."""
    beside = path.with_name(repozo.TEMPORARY)
    descriptor = layout.create_private(beside)
    try:
        yield descriptor
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.rename(path)
    durable.sync_folder(path.parent)


def _record(folder: Path, chain: Sequence[Part], part: Part) -> None:
    """Note the file where repozo looks for it."""
    full = chain[0].name if chain else part.name
    record = (folder / full).with_suffix(".dat")
    lines = record.read_text() if chain else ""
    # As repozo writes them in the repository itself: free of our path.
    line = f"./{part.name} {part.start} {part.end} {part.md5}\n"
    durable.replace_text(record, lines + line)
