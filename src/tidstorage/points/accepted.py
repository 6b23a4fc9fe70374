"""Half commits that somebody accepted: from then on they count as whole.

`tidstorage.coherence.record.accepting` is what that means for the cut.
"""

import logging
from collections.abc import Set

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import FileUnreadable
from tidstorage.points import journal
from tidstorage.points.entries import Acknowledgement

logger = logging.getLogger(__name__)


def acknowledgements(cluster: Cluster) -> dict[bytes, Acknowledgement]:
    """{commit id: its acknowledgement, the first one}; FileUnreadable."""
    found: dict[bytes, Acknowledgement] = {}
    for entry in journal.read_but_old_points(cluster.daemon.journal):
        if isinstance(entry, Acknowledgement):
            found.setdefault(entry.commit_id, entry)
    return found


def commit_ids(cluster: Cluster) -> Set[bytes]:
    """Of the half commits that somebody accepted; none where nobody can tell.

    A broken journal is no reason to go without a backup or a restore: there is more
    damage then than there need be, and floors stay where they were.
    """
    try:
        return acknowledgements(cluster).keys()
    except FileUnreadable as error:
        logger.warning("half commits that were accepted count as damage: %s", error)
        return frozenset()
