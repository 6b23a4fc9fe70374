"""Is the Data.fs of each name the file that its server writes?

A file may be replaced by name under a server, which goes on writing the one that has
lost its name: copies of the new one lack what is committed.  The server says where its
file ends and with which TID; in the file of that name a transaction has to end there.

Where that one has a lower TID, the server's is of a vote that was never finished
(`engines.filestorage.abandoned_votes`): it was killed amid it, and says so until it is
started once more.  That is noted, for what others stamp meanwhile.
"""

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
from tidstorage.zeo.barrier import StorageEnd

logger = logging.getLogger(__name__)


class OtherFile(Exception):
    """A server writes another file, or has packed it just now; the text says which."""


def compare_files(
    cluster: Cluster, ends: Mapping[str, StorageEnd]
) -> Mapping[str, int]:
    """Compare each Data.fs with what its server says: {storage id: its inode}.

    Raises:
      OtherFile: they do not fit.
      FileUnreadable: a Data.fs cannot be read.
      OSError: what was learned cannot be noted.
    """
    inodes = {}
    for storage in cluster.storages:
        path = storage.data_file
        inodes[storage.id] = path.stat().st_ino
        end = ends.get(storage.id)
        if end is None:
            continue
        last = _last_before(path, end.size)
        if last is None or last > end.tid:
            raise OtherFile(
                f"storage {storage.id}: its server ends with transaction"
                f" {tid.to_text(end.tid)} at byte {end.size}, where in {path} there is"
                " none: it writes another file, that has lost this name"
            )
        if last < end.tid:
            vote = AbandonedVote(end.tid, end.size)
            if note_abandoned_vote(path, vote):
                logger.info(
                    "storage %s: its server was killed amid a vote, and says its TID"
                    " %s, which no transaction has",
                    storage.id,
                    tid.to_text(end.tid),
                )
    return inodes


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
