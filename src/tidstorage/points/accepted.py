"""Half commits that somebody accepted, or that proved to be none: they count as whole.

`tidstorage.coherence.record.accept_half_commits` is what that means for the cut.
"""

import logging
from collections.abc import Mapping, Set

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import FileUnreadable
from tidstorage.points.entries import Acknowledgement
from tidstorage.points.summary import summarise

logger = logging.getLogger(__name__)


def acknowledgements(cluster: Cluster) -> Mapping[bytes, Acknowledgement]:
    """{commit id of a half commit: the first acknowledgement of it}.

    Raises: FileUnreadable: where the journal is broken.
    """
    return summarise(cluster.daemon.journal).acknowledgements


def commit_ids(cluster: Cluster) -> Set[bytes]:
    """Of half commits that were accepted or struck out; none where nobody can tell.

    A broken journal is no reason to go without a backup or a restore: there is more
    damage then than there need be, and floors stay where they were.
    """
    try:
        journal = summarise(cluster.daemon.journal)
        return journal.acknowledgements.keys() | journal.struck.keys()
    except FileUnreadable as error:
        logger.warning("half commits that were accepted count as damage: %s", error)
        return frozenset()
