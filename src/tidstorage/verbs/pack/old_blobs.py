"""Whether a server could put the blobs that a pack removes where it wants to keep them.

By ZODB's default a pack keeps what it removes: it renames blobs to a folder beside
the blob directory, ``blobs.old``.  Where that is on another mount, it fails once the
Data.fs has been packed already.
"""

from pathlib import Path

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.engines.filestorage.blob_files import find_links
from tidstorage.errors import PackUnsafe
from tidstorage.system import mounts
from tidstorage.verbs.pack.server_options import Unknown, read_options


def refuse_other_mount(cluster: Cluster, storage: Storage) -> None:
    """Refuse to let a server pack that cannot keep the blobs which it removes.

    Where nobody can see how the server was configured, it counts as ZODB's default is.

    Raises:
      PackUnsafe: a blob would have to be renamed to another mount.
      FileUnreadable: a folder of blobs cannot be read.
    """
    directory = storage.blob_directory
    if directory is None or not _keeps_old(cluster, storage):
        return
    # As FileStorage names it: beside a link, where the blob directory is one.
    beside = directory.absolute().parent
    for folder in _list_places(directory):
        if not mounts.are_on_one_mount(folder, beside):
            raise PackUnsafe(
                f"storage {storage.id}: a pack renames blobs that it removes from"
                f" {folder} to {directory}.old, which is on another mount, and would"
                " fail half way; nothing has been packed",
                "Let the server keep none, by keep-old = false under [pack]"
                " (`pack-keep-old false` in a configuration of your own) and a restart;"
                " or let blob-dir be a folder below the mount point.",
            )


def _keeps_old(cluster: Cluster, storage: Storage) -> bool:
    try:
        return bool(read_options(cluster, storage).pack_keep_old)
    except Unknown:
        return True


def _list_places(directory: Path) -> list[Path]:
    """Where blobs of a blob directory may be: it, and links and mounts below it."""
    below = mounts.find_mount_points_below(directory)
    return [directory, *below, *find_links(directory)]
