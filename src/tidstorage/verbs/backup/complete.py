"""Last phase of a backup: digests, the TID log, the manifest, the next floor."""

import importlib.metadata
import logging
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.coherence import tid
from tidstorage.errors import FileUnreadable, NotCoherent
from tidstorage.operation import parallel
from tidstorage.operation.parallel import Check
from tidstorage.operation.progress import Operation
from tidstorage.points import floors, journal
from tidstorage.points.beside import write_beside
from tidstorage.points.entries import Damage
from tidstorage.sets import layout, manifest
from tidstorage.sets.blobs import StoredBlob, read_lists, write_list
from tidstorage.sets.manifest import Manifest, StoredFile, StoredStorage
from tidstorage.system import clock, durable
from tidstorage.verbs.backup import blobs, digests, ranges
from tidstorage.verbs.backup.blobs import NewBlob
from tidstorage.verbs.backup.copying import Copied
from tidstorage.verbs.backup.examine import Examination
from tidstorage.verbs.backup.moved import SourceMoved
from tidstorage.verbs.backup.prepare import Preparation

logger = logging.getLogger(__name__)

_DISTRIBUTIONS = ("Products.TIDStorage", "ZODB", "ZEO", "transaction")


#: The lists that name a storage's blobs, and the blobs.
StoredBlobs = tuple[tuple[StoredFile, ...], Sequence[StoredBlob]]


@dataclass(frozen=True, slots=True)
class _BlobsOf:
    """A storage, its blob directory, what is stored already and what is to be."""

    storage: Storage
    blob_directory: Path
    known: Sequence[StoredBlob]
    lists: tuple[StoredFile, ...]
    new: Sequence[NewBlob]


def copy_blobs(
    cluster: Cluster,
    preparation: Preparation,
    copies: Mapping[str, Copied],
    vector: tid.Vector,
    operation: Operation,
) -> dict[str, StoredBlobs]:
    """{storage id: its blobs up to the vector}, of the storages that have any."""
    directory = preparation.directory
    found = []
    for storage in cluster.storages:
        if storage.blob_directory is not None:
            known, lists = _known_blobs(preparation, storage, copies[storage.id])
            new = blobs.not_known(storage.blob_directory, vector[storage.id], known)
            found.append(_BlobsOf(storage, storage.blob_directory, known, lists, new))
    total = sum(each.size for of in found for each in of.new)
    with operation.phase("copy blobs", total) as phase:

        def copy(of: _BlobsOf, check: Check) -> StoredBlobs:
            pool = directory.pool(of.storage.id)
            with phase.item(of.storage.id):
                new = blobs.copy(of.new, pool, phase.advance, check)
            path = write_list(pool, preparation.set_id, of.blob_directory, new)
            lists = (*of.lists, digests.stored_file(directory, path))
            return lists, [*of.known, *new]

        stored = parallel.run(cluster.backup.jobs, copy, found)
    return {of.storage.id: each for of, each in zip(found, stored, strict=True)}


def _known_blobs(
    preparation: Preparation, storage: Storage, copied: Copied
) -> tuple[Sequence[StoredBlob], tuple[StoredFile, ...]]:
    """What the lists of the previous set have, where they go on.

    They end with the chain of files they belong to: after a pack, blobs are
    gone; after a restore, a path may come to mean another blob.  SourceMoved
    where one is damaged.
    """
    previous = preparation.previous
    timeline = preparation.floor.timeline if preparation.floor else 1
    if (
        previous is None
        or previous.point.timeline != timeline
        or copied.kind == "full"
        or storage.id not in {each.id for each in previous.storages}
    ):
        return (), ()
    lists = previous.storage(storage.id).blob_lists or ()
    try:
        return read_lists(preparation.directory.path, lists).blobs, lists
    except NotCoherent as error:
        # Full copies begin new lists.
        raise SourceMoved(str(error)) from error


def complete(
    cluster: Cluster,
    preparation: Preparation,
    examination: Examination,
    copies: Mapping[str, Copied],
    stored_blobs: Mapping[str, StoredBlobs],
    seconds: dict[str, float],
) -> Manifest:
    """Write the manifest: from then on the set exists."""
    found = Manifest(
        id=preparation.set_id,
        cluster=cluster.name,
        point=examination.point,
        strict=examination.strict,
        strict_loss=examination.strict_loss,
        floor=preparation.floor,
        unstamped=examination.unstamped,
        storages=tuple(
            _stored_storage(
                preparation,
                each,
                copies[each.id],
                stored_blobs.get(each.id),
            )
            for each in cluster.storages
        ),
        tid_log=_copy_tid_log(cluster, preparation),
        finished=clock.now(),
        seconds=seconds,
        versions=_versions(),
        acknowledged=examination.acknowledged,
    )
    manifest.write(found, preparation.folder)
    return found


def leave_floor(cluster: Cluster, made: Manifest) -> None:
    """Keep the set's point beside the data files, where it may be trusted.

    A point with half commits inside, or one behind transactions that nobody
    stamped, is none to build on: the former one stays.
    """
    if not made.point.damage and made.point.verified:
        files = {each.id: each.data_file for each in cluster.storages}
        write_beside(floors.fit_to_files(made.point, files), files.values())


def note_damage(cluster: Cluster, made: Manifest) -> None:
    """Tell the journal of half commits that the daemon has not found; OSError.

    Without a daemon, or where only the barrier proves them, nobody else does.
    """
    path = cluster.daemon.journal
    known = set()
    try:
        for entry in journal.read_but_old_points(path):
            if isinstance(entry, Damage):
                known.add(entry.half_commit.commit_id)
    except FileUnreadable as error:
        # To be told twice is better than not at all.
        logger.warning("%s", error)
    proof = (
        f"it was not there while all storages stood still for backup set {made.id}"
        if made.point.source == "barrier"
        else f"later transactions in backup set {made.id} leave no place for it there"
    )
    new = [
        Damage(clock.now(), half, proof)
        for half in made.point.damage
        if half.commit_id not in known
    ]
    if new:
        journal.append(path, *new)


def _stored_storage(
    preparation: Preparation,
    storage: Storage,
    copied: Copied,
    stored: StoredBlobs | None,
) -> StoredStorage:
    directory = preparation.directory
    folder = directory.repository(storage.id)
    durable.sync_folder(folder)
    known = digests.named(preparation.previous)
    if copied.written is not None:
        known[copied.written.path] = copied.written
    lists, held = stored if stored is not None else (None, ())
    return StoredStorage(
        id=storage.id,
        kind=copied.kind,
        files=tuple(
            digests.stored_part(directory, folder, part, known) for part in copied.parts
        ),
        size=copied.end,
        blob_lists=lists,
        blob_count=len(held),
        blob_bytes=sum(each.size for each in held),
        ranges=ranges.of_copy(storage.data_file, copied),
        packed=ranges.packed(storage.data_file, copied),
        holes=copied.holes,
        index=digests.stored_index(
            directory, folder / copied.parts[-1].name, preparation.previous
        ),
    )


def _copy_tid_log(cluster: Cluster, preparation: Preparation) -> StoredFile | None:
    """The daemon's TID log as it is now; its last line may be torn."""
    target = preparation.folder / layout.TID_LOG
    try:
        source = cluster.daemon.tid_log.open("rb")
    except FileNotFoundError:
        return None
    with source, os.fdopen(layout.create_private(target), "wb") as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        os.fsync(copy.fileno())
    return digests.stored_file(preparation.directory, target)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        found[name] = importlib.metadata.version(name)
    return found
