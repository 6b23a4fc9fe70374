"""Last phase of a backup: the manifest, and what others are to know of the set."""

import importlib.metadata
import logging
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.coherence.tid import to_text
from tidstorage.errors import FileUnreadable
from tidstorage.points import floors, journal
from tidstorage.points.beside import write_beside
from tidstorage.points.entries import Damage, Struck
from tidstorage.sets import manifest
from tidstorage.sets.manifest import Manifest, StoredFile, StoredStorage
from tidstorage.system import clock, durable, private_files
from tidstorage.verbs.backup import ranges
from tidstorage.verbs.backup.blobs import StoredBlobs
from tidstorage.verbs.backup.copying import StorageCopy
from tidstorage.verbs.backup.digests import KnownFiles, describe_new_file
from tidstorage.verbs.backup.lost_blobs import find_previous
from tidstorage.verbs.backup.prepare import Preparation
from tidstorage.verbs.backup.set_point import SetPoint

logger = logging.getLogger(__name__)

_DISTRIBUTIONS = ("Products.TIDStorage", "ZODB", "ZEO", "transaction")


def write_manifest(
    preparation: Preparation,
    chosen: SetPoint,
    copies: Mapping[str, StorageCopy],
    blobs: Mapping[str, StoredBlobs],
    seconds: Mapping[str, float],
) -> Manifest:
    """Write the manifest: from then on the set exists.

    copies, blobs: by storage id, the latter of storages with a blob directory.
    seconds: how long each phase took.

    Raises:
      CopyAnew: a file of the set is not what was written.
      OSError: as the system says.
    """
    made = Manifest(
        id=preparation.set_id,
        cluster=preparation.cluster.name,
        point=chosen.point,
        strict=chosen.strict,
        strict_loss=chosen.strict_loss,
        floor=preparation.floor,
        unstamped=chosen.unstamped,
        storages=tuple(
            _describe_storage(
                preparation, storage, copies[storage.id], blobs.get(storage.id)
            )
            for storage in preparation.cluster.storages
        ),
        tid_log=_copy_tid_log(preparation),
        description=_copy_description(preparation),
        finished=clock.now(),
        seconds=dict(seconds),
        versions=_find_versions(),
        acknowledged=chosen.acknowledged,
        history=preparation.directory.history,
        unknown=tuple(outcome.commit_id for outcome in chosen.unknown),
    )
    manifest.write(made, preparation.set_folder)
    return made


def _describe_storage(
    preparation: Preparation,
    storage: Storage,
    copy: StorageCopy,
    blobs: StoredBlobs | None,
) -> StoredStorage:
    repository = preparation.directory.repository(storage.id)
    durable.sync_folder(repository)
    known = KnownFiles(preparation.directory, preparation.previous)
    if copy.written is not None:
        known.add(copy.written)
    index_path = (repository / copy.files[-1].name).with_suffix(".index")
    return StoredStorage(
        id=storage.id,
        kind=copy.kind,
        files=tuple(known.describe_file(repository, file) for file in copy.files),
        size=copy.end,
        blob_lists=blobs.lists if blobs else None,
        blob_count=len(blobs.blobs) if blobs else 0,
        blob_bytes=sum(blob.size for blob in blobs.blobs) if blobs else 0,
        ranges=ranges.find_ranges(storage.data_file, copy),
        packed=ranges.find_last_packed(storage.data_file, copy),
        holes=copy.holes,
        index=known.describe_index(index_path),
        lost_blobs=blobs.lost if blobs else (),
        missing_blobs=blobs.missing if blobs else None,
        undescribed_blobs=_count_undescribed_blobs(preparation, storage, copy),
    )


def _count_undescribed_blobs(
    preparation: Preparation, storage: Storage, copy: StorageCopy
) -> int:
    """How many records of blobs there are in a storage without a blob directory."""
    if storage.blob_directory is not None:
        return 0
    former = find_previous(preparation, storage) if copy.kind != "full" else None
    return len(copy.blob_records) + (former.undescribed_blobs if former else 0)


def _copy_tid_log(preparation: Preparation) -> StoredFile | None:
    """The daemon's TID log as it is now; its last line may be torn."""
    target = preparation.directory.tid_log_path(preparation.set_id)
    return _copy(preparation, preparation.cluster.daemon.tid_log, target)


def _copy_description(preparation: Preparation) -> StoredFile | None:
    """The cluster.toml: a restore on a new machine needs it, and the sets."""
    target = preparation.directory.description_path(preparation.set_id)
    return _copy(preparation, preparation.cluster.file, target)


def _copy(preparation: Preparation, path: Path, target: Path) -> StoredFile | None:
    """A copy of a small file; None where that is not there."""
    try:
        source = path.open("rb")
    except FileNotFoundError:
        return None
    with source, os.fdopen(private_files.create(target), "wb") as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        os.fsync(copy.fileno())
    return describe_new_file(preparation.directory, target)


def _find_versions() -> dict[str, str]:
    """{distribution: its version}, of what writes the set."""
    versions = {name: importlib.metadata.version(name) for name in _DISTRIBUTIONS}
    return {"python": platform.python_version(), **versions}


def leave_floor(cluster: Cluster, made: Manifest) -> None:
    """Keep the set's point beside the data files, where it may be trusted.

    A point with half commits inside, or one behind transactions that nobody
    stamped, is none to build on: the former one stays.

    Raises: OSError: as the system says.
    """
    if not made.point.damage and made.point.verified:
        files = {storage.id: storage.data_file for storage in cluster.storages}
        write_beside(floors.fit_to_files(made.point, files), files.values())


def strike_out(cluster: Cluster, whole: Mapping[bytes, Mapping[str, int]]) -> None:
    """Strike out of the journal what it calls half commits, and the files show whole.

    whole: {commit id: its records, {storage id: TID}}.  Where that cannot be written,
    it is logged: the next backup will see the same.
    """
    for commit_id, records in whole.items():
        found = ", ".join(
            f"{name} ({to_text(records[name])})" for name in sorted(records)
        )
        reason = f"every storage that it was meant for holds its record: {found}"
        logger.warning(
            "%s is no half commit, and is struck out of the journal: %s",
            commit_id.hex(),
            reason,
        )
        try:
            journal.append(
                cluster.daemon.journal, Struck(clock.now(), commit_id, reason)
            )
        except OSError as error:
            logger.warning("%s is not struck out yet: %s", commit_id.hex(), error)


def note_damage(cluster: Cluster, made: Manifest) -> None:
    """Tell the journal of the set's half commits that the daemon has not found.

    Without a daemon, or where only the barrier proves them, nobody else does.

    Raises: OSError: as the system says.
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
