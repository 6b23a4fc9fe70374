"""The process that holds the votes of a barrier (`tidstorage.zeo.barrier`).

Reads one JSON line: ``{"deadline": SECONDS, "storages": [{"id", "address"}]}``.
Writes ``{"connected": true}`` when every server answers, then
``{"vector": {id: "0x…"}, "sizes": {id: BYTES}, "time": SECONDS, "skew": {id: [LEAST,
MOST]}}`` when everything is released again; or ``{"error": TEXT}``.  It may be killed
at any moment: the servers release what a closed connection held.
"""

import json
import os
import signal
import sys
import time
from typing import Any

from ZODB.Connection import TransactionMetaData

from tidstorage.coherence import tid
from tidstorage.zeo.client import ZeoClient

#: Seconds to wait for each server before any lock is taken.
CONNECT_TIMEOUT = 2.0


class _Void(Exception):
    """The barrier says nothing; the text tells why."""


def main() -> None:
    """Hold one barrier; the process ends with it, whatever happened."""
    request = json.loads(sys.stdin.readline())
    try:
        clients = _connect(request["storages"])
        _say({"connected": True})
        # Should whoever started us die, nobody else would end a vote that waits.
        signal.setitimer(signal.ITIMER_REAL, request["deadline"])
        _say(_hold(clients))
    except _Void as error:
        _say({"error": str(error)})
    # Not the ordinary end: it would wait for each connection to be closed in
    # order, and a server that hangs would keep the locks of the others.
    os._exit(0)


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _connect(storages: list[dict[str, Any]]) -> dict[str, ZeoClient]:
    """{storage id: its client}, in the order in which all clients lock."""
    clients = {storage["id"]: _make_client(storage) for storage in storages}
    for storage, client in clients.items():
        try:
            client.wait_connected(CONNECT_TIMEOUT)
        except Exception as error:
            # ZEO raises its own ClientDisconnected, and whatever the server's
            # registration raised (an unknown storage, a TLS failure).
            raise _Void(f"storage {storage} cannot be reached: {error}") from error
    return dict(sorted(clients.items(), key=lambda item: item[1].sortKey()))


def _make_client(storage: dict[str, Any]) -> ZeoClient:
    address = storage["address"]
    return ZeoClient(
        address if isinstance(address, str) else tuple(address),
        storage["id"],
        label="tidstorage barrier",
        connect_seconds=CONNECT_TIMEOUT,
        # All of them connect at the same time.
        wait=False,
        read_only=False,
        # A storage that nobody may write needs no lock, only a steady answer.
        read_only_fallback=True,
    )


def _hold(clients: dict[str, ZeoClient]) -> dict[str, Any]:
    """Vote on all storages, read where they end, abort; what to say of that.

    The time is of an instant at which all votes were held: what is acknowledged is
    below the vector, and nothing that is below it was committed later.

    Raises: _Void: where that proves nothing.
    """
    transaction = TransactionMetaData()
    generations = _generations(clients)
    writable = {
        storage: client
        for storage, client in clients.items()
        if not client.is_read_only()
    }
    read_only = {
        storage: client
        for storage, client in clients.items()
        if storage not in writable
    }
    try:
        for client in writable.values():
            client.tpc_begin(transaction)
        votes: dict[str, tuple[float, float]] = {}
        for storage, client in writable.items():
            asked = time.time()
            client.tpc_vote(transaction)
            votes[storage] = asked, time.time()
        before = _last_tids(read_only)
        held_at = time.time()
        vector = _last_tids(writable)
        sizes = {storage: client.size() for storage, client in clients.items()}
        after = _last_tids(read_only)
        skew = _find_skew(writable, votes)
    except Exception as error:
        # Anything a server may raise: the locks go with our connections.
        raise _Void(f"{type(error).__name__}: {error}") from error
    if _generations(clients) != generations:
        raise _Void("a server was lost and found again while votes were held")
    if before != after:
        raise _Void(f"read-only storages moved: {', '.join(sorted(read_only))}")
    for client in writable.values():
        client.tpc_abort(transaction)
    return {
        "vector": tid.vector_to_text({**vector, **after}),
        "sizes": sizes,
        "time": held_at,
        "skew": skew,
    }


def _find_skew(
    clients: dict[str, ZeoClient], votes: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """{storage id: the least and the most by which its server's clock is ahead}.

    A server knows when, by its own clock, it gave a vote its lock: between our asking
    and its answer, which ``votes`` has in seconds since the epoch.  Storages of one
    server have one clock.
    """
    bounds: dict[str, tuple[float, float]] = {}
    for storage, client in clients.items():
        lock_time = client.lock_time()
        if lock_time is not None:
            asked, answered = votes[storage]
            bounds[storage] = lock_time - answered, lock_time - asked
    skew = {}
    for storage in bounds:
        server = clients[storage].server_address
        same = [
            bounds[other] for other in bounds if clients[other].server_address == server
        ]
        least, most = max(low for low, _ in same), min(high for _, high in same)
        # They contradict each other where a clock was set meanwhile.
        skew[storage] = (least, most) if least <= most else bounds[storage]
    return skew


def _generations(clients: dict[str, ZeoClient]) -> dict[str, int]:
    """A number for each client that changes when its connection does."""
    return {storage: client.connection_number for storage, client in clients.items()}


def _last_tids(clients: dict[str, ZeoClient]) -> dict[str, int]:
    """What each server says now, over the connection that holds its vote."""
    return {storage: client.last_tid() for storage, client in clients.items()}


if __name__ == "__main__":
    main()
