"""What it costs that a file of a set is not what was written."""

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.engines import filestorage
from tidstorage.errors import FileUnreadable, NotCoherent, SetUnreadable
from tidstorage.sets.blob_pool import pool_of_list, read_lists
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.manifest import Manifest
from tidstorage.verbs.verify.files import FileKind, SetFile, list_files


@dataclass(frozen=True, slots=True)
class Cost:
    """Something that is bad, or could not be read, and what is lost with it if so.

    path: of the file, relative to the backup directory.  what: is wrong with it, in
    words.  kind: what the file is to a set, or that it is a whole set that cannot be
    restored.  storage: id of the storage that it belongs to; None: of none.
    sets: ids of those that cannot be restored whole without it, newest first.
    instead: the newest whole set that does without; None where there is none.
    after, last: the transactions that it holds of the storage, as TIDs, the first
    exclusive; None where it holds none, or nobody can tell.  transactions: how many
    that are; None where neither the sets nor the live file can tell.
    """

    path: str
    what: str
    kind: FileKind | Literal["manifest", "set"]
    storage: str | None
    sets: tuple[str, ...]
    instead: str | None
    after: int | None = None
    last: int | None = None
    transactions: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "what": self.what,
            "kind": self.kind,
            "storage": self.storage,
            "sets": list(self.sets),
            "instead": self.instead,
            "after": None if self.after is None else tid.to_text(self.after),
            "last": None if self.last is None else tid.to_text(self.last),
            "transactions": self.transactions,
        }


def cost_of_file(
    cluster: Cluster, directory: BackupDirectory, file: SetFile, what: str
) -> Cost:
    """What is lost with a file; of no set where the file was pruned meanwhile."""
    sets = directory.sets()
    tids: set[int] = set()
    needing = []
    for backup_set in sets:
        needed = _tids_needed(directory, backup_set.manifest, file)
        if needed is not None:
            needing.append(backup_set.manifest.id)
            tids |= needed
    if file.kind == "index":
        # No set needs it to be restored, so there is nothing to take instead.
        return Cost(file.path, what, file.kind, file.storage, (*needing,), None)
    after, last, count = None, None, None
    if tids:
        # Of a blob: just the transactions that wrote it.
        after, last, count = min(tids) - 1, max(tids), len(tids)
    elif held := next(_ranges_held(sets, file), None):
        after, last = held
        count = _count_live(cluster, file.storage, after, last)
    return Cost(
        path=file.path,
        what=what,
        kind=file.kind,
        storage=file.storage,
        sets=tuple(needing),
        instead=_newest_whole(sets, needing),
        after=after,
        last=last,
        transactions=count,
    )


def cost_of_manifest(directory: BackupDirectory, path: Path, what: str) -> Cost:
    """What is lost with a manifest: that set, though its files may be well."""
    # A set whose manifest is broken is not among them.
    instead = _newest_whole(directory.sets(), ())
    relative = directory.relative(path)
    return Cost(relative, what, "manifest", None, (path.parent.name,), instead)


def cost_of_set(directory: BackupDirectory, set_id: str, what: str) -> Cost:
    """What is lost with a set that cannot be restored, though its files are well."""
    instead = _newest_whole(directory.sets(), (set_id,))
    return Cost(f"sets/{set_id}", what, "set", None, (set_id,), instead)


def _newest_whole(sets: Iterable[BackupSet], without: Collection[str]) -> str | None:
    """The id of the newest whole set that is none of those; sets: newest first."""
    for backup_set in sets:
        if backup_set.is_whole and backup_set.manifest.id not in without:
            return backup_set.manifest.id
    return None


def _tids_needed(
    directory: BackupDirectory, made: Manifest, file: SetFile
) -> set[int] | None:
    """TIDs of the transactions of a set that wrote a blob; none of another file.

    None where the set does without the file.
    """
    if file.kind != "blob":
        paths = {other.path for other in list_files(made)}
        return set() if file.path in paths else None
    tids: set[int] = set()
    for blob_list in list_files(made):
        pool = pool_of_list(directory.path / blob_list.path)
        is_in_pool = (directory.path / file.path).is_relative_to(pool)
        if blob_list.kind == "blob list" and is_in_pool:
            # One that is broken, or cannot be read, is named for itself.
            with contextlib.suppress(NotCoherent, SetUnreadable):
                blobs = read_lists(directory.path, [blob_list.stored]).blobs
                digest = file.stored.sha256
                tids |= {blob.tid for blob in blobs if blob.sha256 == digest}
    return tids or None


def _ranges_held(sets: Iterable[BackupSet], file: SetFile) -> Iterator[tuple[int, int]]:
    """(after, last) of the transactions that a file holds, as the sets tell."""
    for backup_set in sets:
        for storage in backup_set.manifest.storages:
            # Sets of before ranges were noted have none.
            for stored, held in zip(storage.files, storage.ranges, strict=False):
                if stored.path == file.path:
                    yield held.after, held.last


def _count_live(
    cluster: Cluster, storage_id: str | None, after: int, last: int
) -> int | None:
    """How many of these transactions the live file has; None where not all of them.

    storage_id: as the set calls it.
    """
    data_files = {storage.id: storage.data_file for storage in cluster.storages}
    present_id = cluster.aliases.get(storage_id or "", storage_id or "")
    path = data_files.get(present_id)
    if path is None:
        return None
    try:
        if filestorage.packed_above(path, after):
            return None
        records = filestorage.read_records(path, after, last)
        tids = [record.tid for record in records]
    except (FileUnreadable, OSError):
        return None
    # A file that does not end there is another history, of after a restore.
    return len(tids) if tids and tids[-1] == last else None
