"""One more file of a repozo repository, as repozo itself would write it.

``YYYY-mm-dd-HH-MM-SS.fs`` (a full copy) or ``.deltafs``, with a ``z`` where it is
gzip; beside it ``.index``, the Data.fs.index of that moment; and a line in the
``.dat`` of the full copy: name, first byte, end, MD5 of those bytes.  The index is
written first and the line last, so that what a killed run leaves is never taken
for more than it is.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tidstorage.cluster.cluster import Storage
from tidstorage.engines.filestorage import DataFile, index
from tidstorage.engines.filestorage.blob_records import BlobRecordFinder
from tidstorage.engines.filestorage.copying import SparseWriter, read_range
from tidstorage.errors import TargetExists
from tidstorage.operation.parallel import Check
from tidstorage.operation.progress import Advance
from tidstorage.sets import repozo
from tidstorage.sets.compression import open_gzip_writer
from tidstorage.sets.repozo import RepozoFile
from tidstorage.system import durable, private_files


class _Digesting:
    """Takes the SHA-256 of what is written to a sparse file."""

    def __init__(self, target: SparseWriter) -> None:
        self._target = target
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._target.write(bytes(data))

    def flush(self) -> None:
        """Nothing is held back."""


@dataclass(frozen=True, slots=True)
class Source:
    """A Data.fs that is to be copied into the repozo repository of its storage.

    data_file: read through one descriptor from first to last, whatever takes the
    file's place.  end: copy up to this byte, where a transaction ends.  repository:
    its folder.  chain: the repozo files to go on from; none for a full copy.
    """

    storage: Storage
    data_file: DataFile
    end: int
    repository: Path
    chain: Sequence[RepozoFile]

    @property
    def start(self) -> int:
        """The first byte of the Data.fs that is not in the repository yet."""
        return self.chain[-1].end if self.chain else 0


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was added to a repozo repository, with its size and SHA-256.

    blob_records: (oid, TID) of the records of blobs in it.
    """

    file: RepozoFile
    path: Path
    size: int
    sha256: str
    blob_records: Sequence[tuple[bytes, int]]


def add_file(
    source: Source,
    former_index: Path | None,
    *,
    compress: bool,
    advance: Advance,
    check: Check,
) -> Written:
    """Copy what the repository of a Data.fs does not hold of it yet.

    former_index: the index beside the last file of the chain; None where there is
    none that can be gone on from.  advance: called with the number of bytes read.
    check: called often; what it raises ends the copy.

    Raises:
      EngineFailed: a file of that name exists.
      OSError: as the system says.
    """
    start, end = source.start, source.end
    suffix = (".deltafs" if source.chain else ".fs") + ("z" if compress else "")
    path = source.repository / (repozo.current_second() + suffix)
    if path.exists():
        raise TargetExists(f"{path} exists already", "Run the backup again.")
    complete_index = index.complete(source.data_file, end, former_index, check)
    with _placed(path.with_suffix(".index")):
        complete_index.save(end, str(source.repository / repozo.TEMPORARY))
    # The source is read once: both digests are taken on the way, and blobs looked for.
    blob_records = BlobRecordFinder(start)
    md5 = hashlib.md5(usedforsecurity=False)
    with _placed(path) as descriptor:
        sparse = SparseWriter(descriptor)
        target = _Digesting(sparse)
        raw = cast(BinaryIO, target)
        with (
            open_gzip_writer(raw) if compress else contextlib.nullcontext(raw) as output
        ):
            for block in read_range(source.data_file.descriptor, start, end - start):
                check()
                md5.update(block)
                blob_records.look_at(block)
                output.write(block)
                advance(len(block))
        sparse.finish()
    added = RepozoFile(path.name, start, end, md5.hexdigest())
    _record(source.repository, source.chain, added)
    return Written(
        added,
        path,
        sparse.tell(),
        target.sha256.hexdigest(),
        (*blob_records.find(source.data_file),),
    )


@contextlib.contextmanager
def _placed(path: Path) -> Iterator[int]:
    """A descriptor of a new file that gets its name when all of it is on disk."""
    beside = path.with_name(repozo.TEMPORARY)
    descriptor = private_files.create(beside)
    try:
        yield descriptor
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.rename(path)
    durable.sync_folder(path.parent)


def _record(repository: Path, chain: Sequence[RepozoFile], added: RepozoFile) -> None:
    """Note the new file where repozo looks for it."""
    full = chain[0] if chain else added
    record = (repository / full.name).with_suffix(".dat")
    lines = record.read_text() if chain else ""
    # As repozo writes them in the repository itself: free of our path.
    line = f"./{added.name} {added.start} {added.end} {added.md5}\n"
    durable.replace_text(record, lines + line)
