"""Packs that were cut off: ours, where we were killed, and a server's.

A pack of ours notes what it is about before it begins, and removes the note when
the full set that it makes necessary is there.  A server that is killed leaves the
file that it was writing, and between two renames no Data.fs at all.
"""

import datetime
import json
import logging
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.coherence import tid
from tidstorage.errors import FileUnreadable, NotConnected
from tidstorage.points.stored import StoredVector
from tidstorage.system import clock, durable, json_file
from tidstorage.system.json_file import Shape
from tidstorage.zeo.packing import is_packing, old_file_of, pack_file_of

logger = logging.getLogger(__name__)


class Note(Shape):
    """A pack of ours: begun, in UTC, and {storage id: K, which it stays below}."""

    version: Literal[1]
    begun: datetime.datetime
    below: StoredVector


def note_path(cluster: Cluster) -> Path:
    """Where a pack keeps its note."""
    return cluster.daemon.tid_log.with_name("pack.json")


def read_note(cluster: Cluster) -> Note | None:
    """The note of a pack that was not finished, or goes on; None without one.

    What nobody can read is one of a pack all the same: FileUnreadable.
    """
    path = note_path(cluster)
    if not path.exists():
        return None
    hint = "Take a full set with `bin/cluster backup`, which removes it."
    return json_file.read(path, Note, "the note of a pack", hint)


def write_note(cluster: Cluster, below: tid.Vector) -> None:
    """A pack begins now, of each storage below its TID; OSError."""
    path = note_path(cluster)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "version": 1,
        "begun": clock.now().isoformat(),
        "below": tid.vector_to_text(below),
    }
    durable.replace_text(path, json.dumps(data, indent=1) + "\n")


def remove_note(cluster: Cluster) -> None:
    """The full set is there."""
    note_path(cluster).unlink(missing_ok=True)


def in_words(cluster: Cluster) -> str | None:
    """What an unfinished pack of ours means for a backup; None where there is none."""
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
        packing = [each.id for each in cluster.storages if is_packing(cluster, each)]
    except NotConnected as error:
        logger.warning("whether a pack still goes on is not known: %s", error)
        return
    if packing:
        logger.warning("still being packed by its server: %s", ", ".join(packing))
        return
    remove_note(cluster)


def leftover(storage: Storage) -> Path | None:
    """The unfinished file of a pack, of one that goes on or was cut off."""
    path = pack_file_of(storage.data_file)
    return path if path.exists() else None


def put_back(storage: Storage) -> bool:
    """Give a Data.fs its name back, where a server died between two renames.

    Whether that was so.  It is the file of before the pack; nothing was written to
    it after.  A server that starts without it would begin with an empty one.
    """
    data_file = storage.data_file
    before, written = old_file_of(data_file), pack_file_of(data_file)
    if data_file.exists() or not before.exists() or not written.exists():
        return False
    before.rename(data_file)
    durable.sync_folder(data_file.parent)
    return True
