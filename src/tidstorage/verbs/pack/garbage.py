"""Whether a running ZEO server collects garbage when it packs.

By ZODB's default it does: then an object of one database to which only another one
refers is destroyed.
"""

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.errors import PackUnsafe
from tidstorage.verbs.pack.server_options import Unknown, read_options


def refuse_collection(cluster: Cluster, storage: Storage, gc_is_off: bool) -> None:
    """Refuse to let a server pack a storage unless it leaves garbage where it is.

    gc_is_off: somebody has said that it does; believed where nothing is known.

    Raises: PackUnsafe: the server would collect garbage, or nobody can tell.
    """
    try:
        collects = read_options(cluster, storage).pack_gc
    except Unknown as unknown:
        if gc_is_off:
            return
        raise PackUnsafe(
            f"nobody can tell whether ZEO server {storage.zeo} packs {storage.id}"
            f" without garbage collection: {unknown}",
            "Objects to which only another database refers would be destroyed. Where"
            " the server has `pack-gc false` for it, say so with --gc-is-off.",
        ) from None
    if collects:
        raise PackUnsafe(
            f"ZEO server {storage.zeo} would collect garbage when it packs"
            f" {storage.id}: objects to which only another database refers would be"
            " destroyed",
            "It needs `pack-gc false` for that storage in its configuration, and a"
            " restart.",
        )
