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
from tidstorage.errors import EngineFailed
from tidstorage.operation import parallel
from tidstorage.operation.parallel import Check
from tidstorage.operation.progress import Advance, Operation
from tidstorage.sets import repozo
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Kind, StoredFile
from tidstorage.sets.repozo import Part
from tidstorage.verbs.backup import digests, room, writing
from tidstorage.verbs.backup.moved import SourceMoved
from tidstorage.verbs.backup.writing import Addition

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Copied:
    """A storage's copy: bytes 0 up to ``end`` of the Data.fs of that inode.

    written: the last of its files, where it is new.  holes: how many of the bytes
    take no room.
    """

    kind: Kind
    inode: int
    parts: Sequence[Part]
    written: StoredFile | None
    holes: int

    @property
    def end(self) -> int:
        return self.parts[-1].end


@dataclass(frozen=True, slots=True)
class _Source:
    """What is to be copied, up to the boundary ``end``, and what was before.

    Read through one descriptor from first to last, whatever takes its place.
    """

    storage: Storage
    folder: Path
    data_file: DataFile
    end: int
    parts: Sequence[Part]

    @property
    def start(self) -> int:
        return self.parts[-1].end if self.parts else 0


def copy_all(
    cluster: Cluster,
    directory: BackupDirectory,
    start_over: bool,
    operation: Operation,
    indexes: Mapping[str, StoredFile] | None = None,
) -> dict[str, Copied]:
    """{storage id: its copy}, made ``cluster.backup.jobs`` at a time.

    start_over: full copies, whatever the repositories hold.  indexes: {path: what
    a manifest says of it}; one that has changed since is not gone on from.
    SourceMoved, FileUnreadable, NoSpace, EngineFailed or OSError.
    """
    with contextlib.ExitStack() as stack:
        sources = [
            _open(directory, storage, start_over, stack) for storage in cluster.storages
        ]
        sources = _compare(cluster, sources, operation)
        room.refuse_lack(
            directory.path,
            sum(
                room.least(
                    each.data_file, each.start, each.end, cluster.backup.compress
                )
                for each in sources
            ),
        )
        copies = _copy(cluster, directory, sources, operation, indexes or {})
        return {
            each.storage.id: copied
            for each, copied in zip(sources, copies, strict=True)
        }


def _open(
    directory: BackupDirectory,
    storage: Storage,
    start_over: bool,
    stack: contextlib.ExitStack,
) -> _Source:
    folder = directory.repository(storage.id)
    data_file = stack.enter_context(DataFile(storage.data_file))
    # A file without a byte yet is copied as that.
    end = min(data_file.last_boundary(), data_file.size())
    parts: Sequence[Part] = ()
    if not start_over:
        try:
            parts = repozo.newest_chain(folder)
        except EngineFailed as error:
            logger.warning("a full copy is made, since %s", error)
    if parts and parts[-1].end > end:
        logger.info("storage %s became shorter: a full copy is made", storage.id)
        parts = ()
    return _Source(storage, folder, data_file, end, parts)


def _compare(
    cluster: Cluster, sources: Sequence[_Source], operation: Operation
) -> list[_Source]:
    """The same, without former parts where the Data.fs does not go on from them."""
    total = sum(
        each.parts[-1].end - each.parts[-1].start for each in sources if each.parts
    )
    with operation.phase("compare", total) as phase:

        def compare(source: _Source, check: Check) -> _Source:
            if not source.parts:
                return source
            last = source.parts[-1]
            md5 = hashlib.md5(usedforsecurity=False)
            with phase.item(source.storage.id), _shrinking(source):
                descriptor = source.data_file.descriptor
                for block in read_range(descriptor, last.start, last.end - last.start):
                    check()
                    md5.update(block)
                    phase.advance(len(block))
            if md5.hexdigest() == last.md5:
                return source
            logger.info("storage %s was packed: a full copy is made", source.storage.id)
            return dataclasses.replace(source, parts=())

        return parallel.run(cluster.backup.jobs, compare, sources)


def _copy(
    cluster: Cluster,
    directory: BackupDirectory,
    sources: Sequence[_Source],
    operation: Operation,
    indexes: Mapping[str, StoredFile],
) -> list[Copied]:
    total = sum(
        each.end - (each.parts[-1].end if each.parts else 0) for each in sources
    )
    with operation.phase("copy", total) as phase:

        def copy(source: _Source, check: Check) -> Copied:
            with phase.item(source.storage.id), _shrinking(source):
                former = _former_index(directory, source, indexes)
                addition = Addition(
                    source.data_file,
                    source.end,
                    source.folder,
                    source.parts,
                    former,
                    cluster.backup.compress,
                )
                return _copy_one(directory, addition, phase.advance, check)

        return parallel.run(cluster.backup.jobs, copy, sources)


def _former_index(
    directory: BackupDirectory, source: _Source, indexes: Mapping[str, StoredFile]
) -> Path | None:
    """The index to go on from; one that rots would be carried into all later ones."""
    if not source.parts:
        return None
    path = (source.folder / source.parts[-1].name).with_suffix(".index")
    known = indexes.get(directory.relative(path))
    if known is not None and not digests.is_unchanged(directory, known):
        logger.warning("%s is not what was written: it is made anew", path)
        return None
    return path


def _copy_one(
    directory: BackupDirectory, addition: Addition, advance: Advance, check: Check
) -> Copied:
    descriptor = addition.source.descriptor
    inode = os.fstat(descriptor).st_ino
    holes = room_spared(descriptor, addition.end)
    parts = addition.chain
    if parts and addition.start == addition.end:
        return Copied("unchanged", inode, parts, None, holes)
    part, stored = writing.add(directory, addition, advance, check)
    kind: Kind = "incremental" if parts else "full"
    return Copied(kind, inode, (*parts, part), stored, holes)


@contextlib.contextmanager
def _shrinking(source: _Source) -> Iterator[None]:
    """SourceMoved where reading fails since the file has become shorter."""
    try:
        yield
    except OSError as error:
        if source.data_file.size() < source.end:
            raise SourceMoved(
                f"{source.storage.data_file} became shorter while it was copied"
            ) from error
        raise


def refuse_replaced(cluster: Cluster, copies: Mapping[str, Copied]) -> None:
    """SourceMoved where a Data.fs is not the one any more that was to be copied.

    What is examined is read anew: all of that has to be one and the same file.
    """
    for storage in cluster.storages:
        if storage.data_file.stat().st_ino != copies[storage.id].inode:
            raise SourceMoved(f"{storage.data_file} was replaced during the backup")
