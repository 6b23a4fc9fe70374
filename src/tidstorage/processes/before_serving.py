"""What is mended in data files before a ZEO server opens them."""

from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines import filestorage
from tidstorage.system import clock

UNFINISHED = ".unfinished-"


def cut_unfinished_ends(cluster: Cluster, zeo_name: str) -> list[Path]:
    """Cut the files of a ZEO server behind their last finished transaction.

    Returns the files in which the bytes that were cut off are kept.

    Raises:
      ClusterRunning: where a file is in use.
      FileUnreadable: where a file is broken before its end.
    """
    kept = []
    moment = f"{clock.now():%Y%m%dT%H%M%SZ}"
    for storage in cluster.storages_of(zeo_name):
        path = storage.data_file
        if not path.exists() or not path.stat().st_size:
            continue
        with filestorage.DataFile(path) as data_file:
            if data_file.end().reason == "clean":
                continue
        keep = path.with_name(f"{path.name}{UNFINISHED}{moment}")
        filestorage.truncate(path, filestorage.last_tid(path), keep)
        kept.append(keep)
    return kept
