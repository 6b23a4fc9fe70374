"""Second phase of a backup: every storage is copied, several at a time.

What is written is a repozo repository, and what decides what to copy are repozo's
rules of ``--quick``: where the bytes of the last increment are still in the Data.fs,
all bytes before them are.  A pack or a cut shifts every byte behind it, also the
last increment; a byte that rots in the repository is found by the manifest's
digests.  Of two storages neither waits for the other.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.engines.filestorage import DataFile
from tidstorage.engines.filestorage.copying import read_range, room_spared
from tidstorage.errors import EngineFailed, SetUnreadable
from tidstorage.operation import parallel
from tidstorage.operation.parallel import Check
from tidstorage.operation.progress import Advance, Operation
from tidstorage.sets import repozo
from tidstorage.sets.manifest import CopyKind, StoredFile
from tidstorage.sets.repozo import RepozoFile
from tidstorage.verbs.backup import room, writing
from tidstorage.verbs.backup.copy_anew import CopyAnew
from tidstorage.verbs.backup.digests import KnownFiles
from tidstorage.verbs.backup.prepare import Preparation
from tidstorage.verbs.backup.writing import Source

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StorageCopy:
    """The copy of a storage's Data.fs: its bytes from 0 up to ``end``.

    inode: of the Data.fs that was copied.  files: those of the repozo repository
    that make the copy, oldest first.  written: the last of them, where it is new.
    holes: how many of the bytes take no room on disk.  blob_records: (oid, TID) of the
    records of blobs in what is written.
    """

    kind: CopyKind
    inode: int
    files: Sequence[RepozoFile]
    written: StoredFile | None
    holes: int
    blob_records: Sequence[tuple[bytes, int]] = ()

    @property
    def end(self) -> int:
        return self.files[-1].end


def copy_all(preparation: Preparation, operation: Operation) -> dict[str, StorageCopy]:
    """{storage id: its copy}, made as many at a time as the description says.

    Raises:
      CopyAnew: a Data.fs became shorter while it was copied.
      FileUnreadable: a Data.fs cannot be read.
      NoSpace: the copies are sure not to fit into the backup directory.
      EngineFailed: a file of the name that repozo gives exists.
      OSError: as the system says.
    """
    cluster = preparation.cluster
    with contextlib.ExitStack() as stack:
        sources = [
            _open_source(preparation, storage, stack) for storage in cluster.storages
        ]
        sources = _check_chains(cluster, sources, operation)
        needed = sum(
            room.estimate_least(
                source.data_file, source.start, source.end, cluster.backup.compress
            )
            for source in sources
        )
        room.refuse_lack(preparation.directory.path, needed)
        copies = _copy_sources(preparation, sources, operation)
        return {
            source.storage.id: copy
            for source, copy in zip(sources, copies, strict=True)
        }


def _open_source(
    preparation: Preparation, storage: Storage, stack: contextlib.ExitStack
) -> Source:
    repository = preparation.directory.repository(storage.id)
    data_file = stack.enter_context(DataFile(storage.data_file))
    # A file without a byte yet is copied as that.
    end = min(data_file.last_boundary(), data_file.size())
    chain: Sequence[RepozoFile] = ()
    if not preparation.start_over:
        try:
            chain = repozo.read_newest_chain(repository)
        except SetUnreadable as error:
            # It may be as good as ever: full copies leave it alone.
            logger.warning("not built upon, a full copy is made: %s", error)
        except EngineFailed as error:
            logger.warning("a full copy is made, since %s", error)
    if chain and chain[-1].end > end:
        logger.info("storage %s became shorter: a full copy is made", storage.id)
        chain = ()
    return Source(storage, data_file, end, repository, chain)


def _check_chains(
    cluster: Cluster, sources: Sequence[Source], operation: Operation
) -> list[Source]:
    """The sources; without a chain where its last file is not of this Data.fs."""
    last_files = [source.chain[-1] for source in sources if source.chain]
    total = sum(file.end - file.start for file in last_files)
    with operation.phase("compare", total) as phase:

        def check_chain(source: Source, check: Check) -> Source:
            if not source.chain:
                return source
            last = source.chain[-1]
            md5 = hashlib.md5(usedforsecurity=False)
            with phase.item(source.storage.id), _noticing_shrinkage(source):
                descriptor = source.data_file.descriptor
                for block in read_range(descriptor, last.start, last.end - last.start):
                    check()
                    md5.update(block)
                    phase.advance(len(block))
            if md5.hexdigest() == last.md5:
                return source
            logger.info("storage %s was packed: a full copy is made", source.storage.id)
            return dataclasses.replace(source, chain=())

        return parallel.run(cluster.backup.jobs, check_chain, sources)


def _copy_sources(
    preparation: Preparation, sources: Sequence[Source], operation: Operation
) -> list[StorageCopy]:
    known = KnownFiles(preparation.directory, preparation.previous)
    total = sum(source.end - source.start for source in sources)
    with operation.phase("copy", total) as phase:

        def copy(source: Source, check: Check) -> StorageCopy:
            with phase.item(source.storage.id), _noticing_shrinkage(source):
                former_index = _find_former_index(source, known)
                return _copy_one(
                    preparation, source, former_index, phase.advance, check
                )

        return parallel.run(preparation.cluster.backup.jobs, copy, sources)


def _find_former_index(source: Source, known: KnownFiles) -> Path | None:
    """The index to go on from; None where it has to be made anew.

    One that has rotted would be carried into all later ones.
    """
    if not source.chain:
        return None
    path = (source.repository / source.chain[-1].name).with_suffix(".index")
    if known.has_index_changed(path):
        logger.warning("%s is not what was written: it is made anew", path)
        return None
    return path


def _copy_one(
    preparation: Preparation,
    source: Source,
    former_index: Path | None,
    advance: Advance,
    check: Check,
) -> StorageCopy:
    descriptor = source.data_file.descriptor
    inode = os.fstat(descriptor).st_ino
    holes = room_spared(descriptor, source.end)
    if source.chain and source.start == source.end:
        return StorageCopy("unchanged", inode, source.chain, None, holes)
    written = writing.add_file(
        source,
        former_index,
        compress=preparation.cluster.backup.compress,
        advance=advance,
        check=check,
    )
    relative = preparation.directory.relative(written.path)
    stored = StoredFile(relative, written.size, written.sha256)
    kind: CopyKind = "incremental" if source.chain else "full"
    files = (*source.chain, written.file)
    return StorageCopy(kind, inode, files, stored, holes, written.blob_records)


@contextlib.contextmanager
def _noticing_shrinkage(source: Source) -> Iterator[None]:
    """Reading fails where the file has become shorter, and that has a name of its own.

    Raises: CopyAnew: where that is why it failed.
    """
    try:
        yield
    except OSError as error:
        if source.data_file.size() < source.end:
            raise CopyAnew(
                f"{source.storage.data_file} became shorter while it was copied"
            ) from error
        raise


def refuse_replaced(cluster: Cluster, copies: Mapping[str, StorageCopy]) -> None:
    """Refuse copies of a Data.fs that is not there any more.

    What the point was chosen by was read anew, from the file of that name: both have
    to be one and the same file.

    Raises: CopyAnew: where another file took the place of one that was copied.
    """
    for storage in cluster.storages:
        if storage.data_file.stat().st_ino != copies[storage.id].inode:
            raise CopyAnew(f"{storage.data_file} was replaced during the backup")
