"""The ZEO client of our tools: for a few questions to one storage of one server.

`ZeoClient` is the only ClientStorage that this library makes, and the only place
that touches what ZEO keeps private.  It promises:

- Nothing is left on disk.  Its cache is a temporary file without a name, and as small
  as ZEO allows; several clients of one storage do not hinder each other.
- It is read-only unless it is told otherwise, so that it cannot do harm.
- The deadline is for connecting.  ZEO knows none for an answer: a question waits for
  as long as the connection lives.  Whoever cannot wait asks in a thread or a process
  that it can leave behind (`daemon.observer`, `zeo.barrier_helper`).
- What its own methods answer comes from the server, and over the connection that holds
  a vote if one does.  `ClientStorage.lastTransaction` tells what the cache knows.
- What a server keeps open for an iteration is given back at the iteration's end.  Of
  one that was left before its end it keeps a little even then, for as long as the
  connection lives; `iterations_left` counts these.
- A connection that is lost makes the present question raise ClientDisconnected; the
  next question may find a new connection.  Where that matters, compare
  `connection_number`.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from ZEO.cache import ClientCache
from ZEO.ClientStorage import ClientStorage

from tidstorage.coherence import tid
from tidstorage.errors import NotConnected
from tidstorage.system.address import Address, address_text

#: Bytes.  Next to nothing is read, and so nothing is worth keeping.
SMALLEST_CACHE = 1 << 20


class ZeoClient(ClientStorage):  # type: ignore[misc]
    """One storage of one ZEO server.  To be closed.

    storage: its name on the server.  label: names this client in the server's log.
    connect_seconds: after which an attempt to connect has failed.
    read_only_fallback: write where the server lets us, only read where it does not;
        not together with ``read_only``.
    wait: connect before this returns; otherwise `wait_connected` does.
    cache: instead of ZEO's own.

    Raises: ClientDisconnected: where ``wait`` is true and nobody answers; besides,
        whatever the server raises where it refuses us, as for an unknown storage.
    """

    def __init__(
        self,
        address: Address,
        storage: str,
        *,
        label: str,
        connect_seconds: float,
        read_only: bool = True,
        read_only_fallback: bool = False,
        wait: bool = True,
        cache: ClientCache | None = None,
    ) -> None:
        self.server_address = address
        super().__init__(
            address,
            storage=storage,
            client_label=label,
            cache=cache,
            cache_size=SMALLEST_CACHE,
            read_only=read_only,
            read_only_fallback=read_only_fallback,
            wait=wait,
            wait_timeout=connect_seconds,
        )
        #: How many iterations were left before their end, over all connections.
        self.iterations_left = 0

    def wait_connected(self, seconds: float) -> None:
        """Return when there is a connection, and at once where there is one.

        Raises: ClientDisconnected: where there is none after so many seconds;
            besides, whatever the server raises where it refuses us.
        """
        self._wait(seconds)

    @property
    def connection_number(self) -> int:
        """Another one whenever the connection was lost and found again."""
        number: int = self._connection_generation
        return number

    def last_tid(self) -> int:
        """The TID that the server calls its last one now; 0 where it has none.

        After a server was killed this may be a TID that no record has.
        """
        return tid.from_bytes(self._call("lastTransaction"))

    def size(self) -> int:
        """Where the server ends its last finished transaction: bytes of its Data.fs."""
        information: dict[str, Any] = self._call("get_info")
        return int(information["size"])

    def lock_time(self) -> float | None:
        """When, by the server's clock, the vote that holds the storage got its lock.

        Seconds since the epoch; None where no vote is held.
        """
        seconds: float | None = self.server_status()["lock_time"]
        return seconds

    def newest(self, count: int) -> list[dict[str, Any]]:
        """Entries of the undo log for the newest records, the last one first.

        At most ``count``.  Those that a pack has gone over are left out.

        Raises: ServerException: during a pack (`server_errors.is_undo_error`).
        """
        entries: list[dict[str, Any]] = self._call("undoLog", 0, -count)
        return entries

    @contextlib.contextmanager
    def transactions(self, start: int | None = None) -> Iterator[Iterator[Any]]:
        """The storage's transactions from a TID on, each asked for on its own.

        The server looks for the start in its only thread: an old one holds up
        everybody else.
        """
        iterator = self.iterator(None if start is None else tid.to_bytes(start))
        try:
            yield iterator
        finally:
            # The server keeps the iterator, and its Data.fs open, until it is told
            # which ones are gone.  By itself ZEO tells that only after a commit,
            # and a client that reads never commits.
            if not iterator._ended:
                self.iterations_left += 1
            self._iterators.pop(iterator._iid, None)
            self._iterator_gc()

    # What `daemon.throttle` needs.  Another ZEO may lack any of it.

    def io_loop(self) -> Any:
        """The event loop of ZEO's thread; None where it has not started.

        Raises: AttributeError: where this ZEO is made otherwise.
        """
        return self._server.loop

    def io_transport(self) -> Any:
        """The connection's transport, for ZEO's thread; None without a connection.

        Raises: AttributeError: where this ZEO is made otherwise.
        """
        protocol = self._server.client.protocol
        return None if protocol is None else protocol.sm_protocol.transport


class NoCache(ClientCache):  # type: ignore[misc]
    """A ZEO cache that holds nothing: no announcement makes it look for anything.

    It lets a server in whose last TID is below the last one that was seen; ZEO's own
    refuses it.
    """

    tid: bytes

    def __init__(self) -> None:
        super().__init__(None, SMALLEST_CACHE)

    def invalidate(self, oid: bytes, tid: bytes | None) -> None:
        pass

    def setLastTid(self, tid: bytes) -> None:
        # Also backwards: a server that was restored has to be let in, and seen.
        if tid != bytes(8):
            self.tid = tid


@contextlib.contextmanager
def connect(
    address: Address,
    storage: str,
    *,
    server: str,
    label: str,
    connect_seconds: float,
    read_only: bool = True,
) -> Iterator[ZeoClient]:
    """A client that is connected, for as long as the context lasts.

    server: the ZEO server's name in the description, for the error.

    Raises: NotConnected: where the server does not answer, or refuses us.
    """
    try:
        client = ZeoClient(
            address,
            storage,
            label=label,
            connect_seconds=connect_seconds,
            read_only=read_only,
        )
    except Exception as error:
        # ClientDisconnected, and whatever the server raised where it refused us.
        raise NotConnected(
            f"storage {storage} of ZEO server {server} at {address_text(address)}"
            f" cannot be reached: {error}",
            "Is it up? bin/cluster status tells.",
        ) from error
    with contextlib.closing(client):
        yield client
