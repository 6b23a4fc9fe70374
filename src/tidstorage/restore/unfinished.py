"""What an interrupted restore leaves is no state for any server to open."""

from tidstorage.cluster import Cluster
from tidstorage.engines.filestorage import in_place
from tidstorage.errors import InterruptedRestore
from tidstorage.restore import swap


def refuse(cluster: Cluster) -> None:
    """InterruptedRestore where a swap, or a cut in place, has to be ended first.

    A server started amid a swap would make an empty file where the new one is
    to come.
    """
    if journal := swap.interrupted(cluster):
        raise InterruptedRestore(f"a restore was interrupted amid its swap ({journal})")
    if in_place.interrupted(each.data_file for each in cluster.storages):
        raise InterruptedRestore(
            "tidstorage-restore was interrupted while it cut the files",
            "Run bin/tidstorage-restore again: it goes on where it stopped.",
        )
