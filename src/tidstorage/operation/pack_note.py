"""Packs that were interrupted: our own, and those of a server that was killed.

A pack of ours writes a note before it begins, and removes it when the full set is
there that a pack makes necessary.  A server that is killed leaves the file that it was
writing; killed between its two renames, it leaves no Data.fs at all.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.cluster.pack_files import old_file_of, pack_file_of
from tidstorage.coherence import tid
from tidstorage.errors import FileUnreadable, NotConnected
from tidstorage.sets.stored import StoredTime, StoredVector
from tidstorage.system import clock, durable, json_file
from tidstorage.zeo.packing import is_packing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Note:
    """A pack of ours.

    begun: when, in UTC.  below: {storage id: TID of the point that it stays below}.
    """

    __pydantic_config__ = json_file.EXACT

    version: Literal[1]
    begun: StoredTime
    below: StoredVector


def note_path(cluster: Cluster) -> Path:
    """The file of the note."""
    return cluster.daemon.tid_log.with_name("pack.json")


def read_note(cluster: Cluster) -> Note | None:
    """The note of a pack that was interrupted, or is under way; None without one.

    Raises: FileUnreadable: where there is a note that nobody can read.
    """
    path = note_path(cluster)
    if not path.exists():
        return None
    hint = "Take a full set with `bin/cluster backup`, which removes it."
    return json_file.read(path, Note, "the note of a pack", hint)


def write_note(cluster: Cluster, below: tid.Vector) -> None:
    """Note that a pack begins now, of each storage below its TID.

    Raises: OSError: where the note cannot be written.
    """
    path = note_path(cluster)
    path.parent.mkdir(parents=True, exist_ok=True)
    json_file.write(path, Note(1, clock.now(), below))


def remove_note(cluster: Cluster) -> None:
    """Remove the note: the full set is there."""
    note_path(cluster).unlink(missing_ok=True)


def describe(cluster: Cluster) -> str | None:
    """An unfinished pack of ours, in words; None where there is none."""
    try:
        note = read_note(cluster)
    except FileUnreadable as error:
        return str(error)
    if note is None:
        return None
    return (
        f"a pack that began at {note.begun:%Y-%m-%d %H:%M:%S} UTC has not been followed"
        " by a full set"
    )


def settle(cluster: Cluster) -> None:
    """Remove the note after full copies were made, unless a server still packs."""
    if not note_path(cluster).exists():
        return
    try:
        packing = [
            storage.id for storage in cluster.storages if is_packing(cluster, storage)
        ]
    except NotConnected as error:
        logger.warning("nobody can say whether a pack is still under way: %s", error)
        return
    if packing:
        logger.warning("still being packed by its server: %s", ", ".join(packing))
        return
    remove_note(cluster)


def leftover(storage: Storage) -> Path | None:
    """The file that a pack writes, where one is under way or was interrupted."""
    path = pack_file_of(storage.data_file)
    return path if path.exists() else None


def put_back(storage: Storage) -> bool:
    """Give a Data.fs its name back, where a server died between its two renames.

    Returns whether that was so.  The file is the one of before the pack, to which
    nothing was written after.  A server that starts without it would make an empty one.
    """
    data_file = storage.data_file
    before, written = old_file_of(data_file), pack_file_of(data_file)
    if data_file.exists() or not before.exists() or not written.exists():
        return False
    before.rename(data_file)
    durable.sync_folder(data_file.parent)
    return True
