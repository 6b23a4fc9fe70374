"""What is mended in data files before a ZEO server opens them."""

from collections.abc import Callable
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage.abandoned_votes import (
    AbandonedVote,
    note_abandoned_vote,
)
from tidstorage.operation import pack_note
from tidstorage.operation.unfinished import refuse_unfinished
from tidstorage.points import known_files
from tidstorage.sets import history
from tidstorage.system import clock

UNFINISHED = ".unfinished-"


def mend_files(cluster: Cluster, zeo_name: str, warn: Callable[[str], None]) -> None:
    """Make the files of a ZEO server fit to be opened.

    A Data.fs gets its name back from a pack that was killed between its two renames,
    and unfinished ends are cut off.  warn: is told what was done, in words.

    Raises:
      InterruptedRestore: where a restore has to be brought to its end first.
      DataFileLost, OtherHistory: where a file is not what was there before.
      as `cut_unfinished_ends`.
    """
    refuse_unfinished(cluster)
    for storage in cluster.storages_of(zeo_name):
        if pack_note.put_back(storage):
            warn(
                f"a pack of storage {storage.id} was killed while it renamed files:"
                f" {storage.data_file} is again the file from before the pack"
            )
    _refuse_lost_files(cluster, zeo_name, warn)
    for path in cut_unfinished_ends(cluster, zeo_name):
        warn(
            "a transaction that was never finished was cut off a Data.fs; it is kept"
            f" as {path}"
        )


def _refuse_lost_files(
    cluster: Cluster, zeo_name: str, warn: Callable[[str], None]
) -> None:
    """Refuse files that a server would take for new, or that are another storage's."""
    storages = cluster.storages_of(zeo_name)
    history.refuse_others_files(cluster)
    findings = known_files.examine(known_files.record_path(cluster), storages)
    known_files.refuse_lost(findings)
    known_files.refuse_blobs_without_data(storages)
    for found in findings:
        if found.state == "went back":
            warn(f"{found.words}; that begins a new timeline")


def cut_unfinished_ends(cluster: Cluster, zeo_name: str) -> list[Path]:
    """Cut the files of a ZEO server behind their last finished transaction.

    Returns the files in which the bytes that were cut off are kept.

    Raises:
      ClusterRunning: where a file is in use.
      FileUnreadable: where a file is broken before its end.
      NoSpace: where what is cut off finds no room.
      EngineFailed: where the system fails.
    """
    kept = []
    moment = f"{clock.now():%Y%m%dT%H%M%SZ}"
    for storage in cluster.storages_of(zeo_name):
        path = storage.data_file
        if not path.exists() or not path.stat().st_size:
            continue
        with filestorage.DataFile(path) as data_file:
            end = data_file.end()
            if end.reason == "clean":
                continue
            if end.reason == "voted":
                # A server that was started without this has told clients its TID.
                vote = AbandonedVote(data_file.tid_at(end.position), end.position)
                note_abandoned_vote(path, vote)
        keep = path.with_name(f"{path.name}{UNFINISHED}{moment}")
        filestorage.truncate(path, filestorage.last_tid(path), keep)
        kept.append(keep)
    return kept
