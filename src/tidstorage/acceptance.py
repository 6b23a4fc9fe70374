"""Half commits that somebody accepted: from then on they count as whole.

`tidstorage.record.accepting` is what that means for the cut.
"""

from tidstorage import journal
from tidstorage.cluster import Cluster
from tidstorage.journal import Acknowledgement


def acknowledgements(cluster: Cluster) -> dict[bytes, Acknowledgement]:
    """{commit id: its acknowledgement, the first one}; FileUnreadable."""
    found: dict[bytes, Acknowledgement] = {}
    for entry in journal.read_but_old_points(cluster.daemon.journal):
        if isinstance(entry, Acknowledgement):
            found.setdefault(entry.commit_id, entry)
    return found
