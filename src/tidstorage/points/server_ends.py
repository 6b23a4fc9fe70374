"""Is the Data.fs of each name the file that its server writes?

A file may be replaced by name under a server, which goes on writing the one that has
lost its name: copies of the new one lack what is committed.  The server says where its
file ends and with which TID; in the file of that name a transaction has to end there.

Where that one has a lower TID, the server's is of a vote that was never finished
(`engines.filestorage.abandoned_votes`): it was killed amid it, and says so until it is
started once more.  That is noted, for what others stamp meanwhile.
"""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.engines.filestorage import DataFile
from tidstorage.engines.filestorage.abandoned_votes import (
    AbandonedVote,
    note_abandoned_vote,
)
from tidstorage.engines.filestorage.format import START
from tidstorage.errors import FileUnreadable
from tidstorage.zeo import barrier
from tidstorage.zeo.barrier import Instant, StorageEnd

logger = logging.getLogger(__name__)


class OtherFile(Exception):
    """A server writes another file, or has packed it just now; the text says which."""


def compare_files(
    cluster: Cluster, ends: Mapping[str, StorageEnd]
) -> Mapping[str, int]:
    """Compare each Data.fs with what its server says: {storage id: its inode}.

    Raises: as `compare_file`.
    """
    inodes = {}
    for storage in cluster.storages:
        inodes[storage.id] = storage.data_file.stat().st_ino
        if storage.id in ends:
            compare_file(storage.id, storage.data_file, ends[storage.id])
    return inodes


def compare_file(storage_id: str, path: Path, end: StorageEnd) -> None:
    """Compare a Data.fs with what its server says; note a vote that was abandoned.

    Raises:
      OtherFile: they do not fit.
      FileUnreadable: the Data.fs cannot be read.
      OSError: what was learned cannot be noted.
    """
    last = _last_before(path, end.size)
    if last is None or last > end.tid:
        raise OtherFile(
            f"storage {storage_id}: its server ends with transaction"
            f" {tid.to_text(end.tid)} at byte {end.size}, where in {path} there is"
            " none: it writes another file, that has lost this name"
        )
    vote = AbandonedVote(end.tid, end.size)
    if last < end.tid and note_abandoned_vote(path, vote):
        logger.info(
            "storage %s: its server was killed amid a vote, and says its TID %s, which"
            " no transaction has",
            storage_id,
            tid.to_text(end.tid),
        )


def take_instant(cluster: Cluster) -> Instant:
    """A barrier; votes of which it shows that they were abandoned are noted.

    Raises: BarrierFailed: as `zeo.barrier.take_instant`.
    """
    held = barrier.take_instant(barrier.storages_of(cluster))
    # What cannot be compared tells nothing of votes; the barrier holds all the same.
    with contextlib.suppress(OtherFile, FileUnreadable, OSError):
        compare_files(cluster, held.ends)
    return held


def _last_before(path: Path, end: int) -> int | None:
    """The TID of the transaction that ends there; 0 at the start; None: none does."""
    with DataFile(path) as data_file:
        if end <= START:
            return 0
        if end > data_file.size() or not data_file.is_boundary(end):
            return None
        try:
            return next(data_file.backward(end)).tid
        except FileUnreadable:
            return None
