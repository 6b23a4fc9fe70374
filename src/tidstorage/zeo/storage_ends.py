"""Where storages end by what their servers say, without holding anything."""

from collections.abc import Mapping

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.zeo.barrier import StorageEnd
from tidstorage.zeo.client import connect

_CONNECT_SECONDS = 5.0
#: Of a storage that is written to all the time an end is of no use.
_ATTEMPTS = 5


def read_ends(cluster: Cluster) -> Mapping[str, StorageEnd]:
    """{storage id: where it ended a moment ago}, each storage for itself.

    Without those that were written to whenever they were asked.

    Raises:
      NotConnected: a server does not answer.
      ClientDisconnected, or whatever a server raises: it went away meanwhile.
    """
    ends = {storage.id: _read_end(cluster, storage) for storage in cluster.storages}
    return {storage: end for storage, end in ends.items() if end is not None}


def _read_end(cluster: Cluster, storage: Storage) -> StorageEnd | None:
    zeo = cluster.zeo(storage.zeo)
    with connect(
        zeo.address,
        storage.id,
        server=zeo.name,
        label="tidstorage backup",
        connect_seconds=_CONNECT_SECONDS,
    ) as client:
        for _ in range(_ATTEMPTS):
            before, connection = client.last_tid(), client.connection_number
            size = client.size()
            if (client.last_tid(), client.connection_number) == (before, connection):
                return StorageEnd(before, size)
    return None
