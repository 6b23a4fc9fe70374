"""What it costs that a file of a set is not what was written."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.engines import filestorage
from tidstorage.errors import FileUnreadable, NotCoherent
from tidstorage.sets.blobs import pool_of_list, read_lists
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.manifest import Manifest
from tidstorage.verbs.verify.files import Item, Kind, named


@dataclass(frozen=True, slots=True)
class Cost:
    """A file that is bad, and what is lost with it.

    sets: ids of those that cannot be restored whole without it, newest first.
    instead: the newest whole set that does without; None where there is none.
    after, last: the transactions that it holds of the storage, as TIDs, the first
    exclusive; None where it holds none, or nobody can tell.  transactions: how many
    that are; None where neither the sets nor the live file can tell.
    """

    path: str
    what: str
    kind: Kind
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


def cost(
    cluster: Cluster, directory: Path, found: Sequence[BackupSet], item: Item, what: str
) -> Cost:
    """What is lost with a file; found: all sets, newest first."""
    tids: set[int] = set()
    sets = []
    for each in found:
        needed = _needed(directory, each.manifest, item)
        if needed is not None:
            sets.append(each.manifest.id)
            tids |= needed
    if item.kind == "index":
        return Cost(item.stored.path, what, item.kind, item.storage, (*sets,), None)
    others = (each for each in found if each.manifest.id not in sets)
    instead = next((each.manifest.id for each in others if each.is_whole), None)
    after, last, count = None, None, None
    if tids:
        after, last, count = min(tids) - 1, max(tids), len(tids)
    elif held := next(_ranges([each.manifest for each in found], item), None):
        after, last = held
        count = _count(cluster, item.storage, after, last)
    return Cost(
        item.stored.path,
        what,
        item.kind,
        item.storage,
        tuple(sets),
        instead,
        after,
        last,
        count,
    )


def of_manifest(
    directory: BackupDirectory, found: Sequence[BackupSet], path: Path, what: str
) -> Cost:
    """What is lost with a manifest: that set; its files may be well."""
    instead = next((each.manifest.id for each in found if each.is_whole), None)
    relative = directory.relative(path)
    return Cost(relative, what, "manifest", None, (path.parent.name,), instead)


def of_set(found: Sequence[BackupSet], set_id: str, what: str) -> Cost:
    """What is lost with a set that cannot be restored, though its files are well."""
    others = (each for each in found if each.manifest.id != set_id)
    instead = next((each.manifest.id for each in others if each.is_whole), None)
    return Cost(f"sets/{set_id}", what, "set", None, (set_id,), instead)


def _needed(directory: Path, made: Manifest, item: Item) -> set[int] | None:
    """None where a set does without a file; of a blob, TIDs of its transactions."""
    path = item.stored.path
    if item.kind != "blob":
        return set() if any(each.stored.path == path for each in named(made)) else None
    tids: set[int] = set()
    for each in named(made):
        pool = pool_of_list(directory / each.stored.path)
        if each.kind == "blob list" and (directory / path).is_relative_to(pool):
            # One that is broken is named for itself.
            with contextlib.suppress(NotCoherent):
                held = read_lists(directory, [each.stored]).blobs
                tids |= {one.tid for one in held if one.sha256 == item.stored.sha256}
    return tids or None


def _ranges(made: Sequence[Manifest], item: Item) -> Iterator[tuple[int, int]]:
    for one in made:
        for storage in one.storages:
            for stored, held in zip(storage.files, storage.ranges, strict=False):
                if stored.path == item.stored.path:
                    yield held.after, held.last


def _count(cluster: Cluster, storage: str | None, after: int, last: int) -> int | None:
    """How many transactions that are in the live file, where it still has them."""
    known = {each.id: each.data_file for each in cluster.storages}
    path = known.get(cluster.aliases.get(storage or "", storage or ""))
    if path is None:
        return None
    try:
        if filestorage.packed_above(path, after):
            return None
        tids = [each.tid for each in filestorage.read_records(path, after, last)]
    except FileUnreadable:
        return None
    # Else this is another history, of after a restore.
    return len(tids) if tids and tids[-1] == last else None
