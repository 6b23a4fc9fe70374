"""Packs of a ZEO server's storages: whether one goes on, and doing one.

A ZEO server packs for a read-only client too, and such a client cannot do harm.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator

from ZEO.Exceptions import ClientDisconnected

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.cluster.pack_files import pack_file_of
from tidstorage.errors import EngineFailed, NoSpace, NotConnected, TidstorageError
from tidstorage.zeo import server_errors
from tidstorage.zeo.client import ZeoClient, connect

#: What a server says that finds no room for its second file.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_CONNECT_SECONDS = 15.0
#: Seconds between two looks at how far a pack is.
_LOOK_SECONDS = 0.5


def _connected(
    cluster: Cluster, storage: Storage
) -> contextlib.AbstractContextManager[ZeoClient]:
    zeo = cluster.zeo(storage.zeo)
    return connect(
        zeo.address,
        storage.id,
        server=zeo.name,
        label="tidstorage pack",
        connect_seconds=_CONNECT_SECONDS,
    )


def is_packing(cluster: Cluster, storage: Storage) -> bool:
    """Whether the server packs the storage now, whoever asked for it.

    A storage refuses to tell what could be undone for just as long.

    Raises: NotConnected: where the server does not answer.
    """
    with _connected(cluster, storage) as client:
        try:
            client.newest(1)
        except Exception as error:
            if server_errors.is_undo_error(error):
                return True
            raise NotConnected(f"storage {storage.id}: {error}") from error
    return False


def pack(
    cluster: Cluster, storage: Storage, seconds: float, advance: Callable[[int], None]
) -> None:
    """Have the server pack the storage to a time, and wait for the end of it.

    seconds: since 1970 (`times.seconds_below`).
    advance: is told how many more bytes were written, from time to time.

    Where it fails the storage is as it was before.

    Raises:
      NotConnected: where the server does not answer, or refuses us.
      NoSpace: where the packed file found no room.
      EngineFailed: where it fails otherwise.
    """
    with _connected(cluster, storage) as client, _watched(storage, advance):
        try:
            client.pack(seconds, wait=True)
        except Exception as error:
            # The server sends us whatever it met.
            raise _failure(storage, error) from error


def _failure(storage: Storage, error: Exception) -> TidstorageError:
    if isinstance(error, ClientDisconnected):
        return EngineFailed(
            f"ZEO server {storage.zeo} was lost while it packed {storage.id}",
            "See its log. When it is up (bin/cluster status), pack again: that begins"
            " with a backup, and removes what was left.",
        )
    if _lacks_space(error):
        return NoSpace(
            f"ZEO server {storage.zeo} had no room to pack {storage.id}: {error}",
            "Make room beside the Data.fs; it is as it was before.",
        )
    return EngineFailed(
        f"ZEO server {storage.zeo} could not pack {storage.id}:"
        f" {server_errors.class_name(error)}: {error}",
        "See its log. The Data.fs is as it was before.",
    )


def _lacks_space(error: Exception) -> bool:
    texts = [os.strerror(number) for number in _NO_ROOM]
    return any(text in str(error) for text in texts)


@contextlib.contextmanager
def _watched(storage: Storage, advance: Callable[[int], None]) -> Iterator[None]:
    """Meanwhile, tell how the file grows that the server writes."""
    path = pack_file_of(storage.data_file)
    ended = threading.Event()

    def look() -> None:
        told = 0
        while not ended.wait(_LOOK_SECONDS):
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                advance(size - told)
                told = size

    watcher = threading.Thread(target=look, name="pack", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
