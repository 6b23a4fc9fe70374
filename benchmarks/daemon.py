"""What the daemon takes and how fast it answers: ``python benchmarks/daemon.py``.

A real daemon with TID log and journal; clients in processes of their own.  Each
transaction writes two storages of four and is told in two sends, BEGIN and COMMIT,
as fast as the socket takes them.  The clock stops when DUMP shows the last one, so
that nothing counts that only lies in a buffer.  The daemon's own CPU time a
transaction tells what it could do without clients on the same machine.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tidstorage.wire import protocol

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from daemons import DaemonProcess, Peer, running_daemon

#: As bin/buildout configures it.
BURST_SECONDS = 1
STORAGES = ("root", "catalog", "documents", "media")
DUMPS = 2000


def send_transactions(port: int, client: int, count: int, start: Any) -> None:
    """One Zope: its transactions write two storages that others write too."""
    messages = []
    for number in range(count):
        name = f"zope-{client}-{number}"
        first = (client + number) % len(STORAGES)
        pair = STORAGES[first], STORAGES[(first + 1) % len(STORAGES)]
        tid = (number << 8) + client + 1
        messages.append(protocol.encode_begin(name, pair))
        messages.append(protocol.encode_commit(name, dict.fromkeys(pair, tid)))
    peer = Peer(port)
    start.wait()
    for message in messages:
        peer.send(message)
    peer.dump()
    peer.close()


def throughput(daemon: DaemonProcess, clients: int, count: int) -> tuple[float, float]:
    """Transactions/s, and microseconds of the daemon's CPU time for each."""
    start = multiprocessing.Barrier(clients + 1)
    processes = [
        multiprocessing.Process(
            target=send_transactions,
            args=(daemon.port, client, count // clients, start),
        )
        for client in range(clients)
    ]
    for process in processes:
        process.start()
    start.wait()
    cpu = daemon.cpu_seconds()
    begun = time.perf_counter()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    seconds = time.perf_counter() - begun
    cpu = daemon.cpu_seconds() - cpu
    total = count // clients * clients
    return total / seconds, cpu / total * 1e6


def round_trips(daemon: DaemonProcess) -> tuple[float, float]:
    """Microseconds from DUMP to its whole answer: median, 99th percentile."""
    peer = daemon.peer()
    times = []
    for _ in range(DUMPS):
        begun = time.perf_counter()
        vector = peer.dump()
        times.append((time.perf_counter() - begun) * 1e6)
        assert vector
    peer.close()
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40_000, metavar="TRANSACTIONS")
    options = parser.parse_args()
    for clients in (1, 4, 16):
        with (
            tempfile.TemporaryDirectory() as folder,
            running_daemon(Path(folder), "-b", BURST_SECONDS) as daemon,
        ):
            rate, cpu = throughput(daemon, clients, options.count)
            print(
                f"{clients:2} connections: {rate:8,.0f} transactions/s,"
                f" {cpu:.0f} µs CPU each",
                flush=True,
            )
            if clients == 16:
                median, late = round_trips(daemon)
                print(
                    f"DUMP, {len(STORAGES)} storages: {median:.0f} µs, p99 {late:.0f}"
                )


if __name__ == "__main__":
    main()
