"""How old the daemon's point is under load: ``python benchmarks/freshness.py``.

Real ZEO servers with 2 storages each, a daemon that observes them, and committers in
processes of their own: each transaction writes two storages, and takes 50 ms from its
stamp to its votes, so that ten are open at any time.  The age of the point is, as in
docs/design.rst, the time since the oldest commit ended that the point does not cover;
it is sampled with DUMP.
With ``--rate 0`` committers go as fast as they can.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from pathlib import Path
from typing import Any

import ZEO
from ZODB.Connection import TransactionMetaData

from tidstorage.coherence import stamp, tid

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from daemons import DaemonProcess
from observed_site import Site

PAIRS = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("a", "c"), ("b", "d")]
SAMPLE_SECONDS = 0.02


def commit_all_the_time(
    addresses: dict[str, Any], number: int, options: argparse.Namespace, pipe: Any
) -> None:
    """One process; its threads share a client for each storage, as a Zope's do."""
    commits: list[tuple[float, dict[str, int]]] = []
    clients = {
        storage: ZEO.client(address, storage=storage)
        for storage, address in addresses.items()
    }
    pipe.send("ready")
    begin = pipe.recv()
    threads = [
        threading.Thread(
            target=_commit_until,
            args=(clients, number * options.threads + thread, begin, options, commits),
        )
        for thread in range(options.threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send(commits)
    for client in clients.values():
        client.close()


def _commit_until(
    clients: dict[str, Any],
    number: int,
    begin: float,
    options: argparse.Namespace,
    commits: list[tuple[float, dict[str, int]]],
) -> None:
    others = options.processes * options.threads
    end = begin + options.seconds
    interval = others / options.rate if options.rate else 0.0
    due = begin + number * interval / others
    # A long wait between two commits is made up for, as users do not wait either.
    while (now := time.monotonic()) < end and due < end:
        if interval:
            time.sleep(max(0.0, due - now))
            due += interval
        pair = PAIRS[number % len(PAIRS)]
        number += 1
        vector = {
            storage: tid.from_bytes(client.lastTransaction()) + 1
            for storage, client in clients.items()
        }
        data = stamp.encode(os.urandom(16), pair, vector)
        metadata = TransactionMetaData(extension={stamp.KEY: data})
        # A ClientStorage commits one transaction at a time: to be open for long is
        # to wait here, and many are open.
        time.sleep(options.pause)
        mine = [clients[storage] for storage in pair]
        for client in mine:
            client.tpc_begin(metadata)
            client.store(client.new_oid(), b"\0" * 8, b"x" * 100, "", metadata)
        for client in mine:
            client.tpc_vote(metadata)
        tids = {
            storage: tid.from_bytes(clients[storage].tpc_finish(metadata))
            for storage in pair
        }
        commits.append((time.monotonic(), tids))


def ages(
    commits: list[tuple[float, dict[str, int]]],
    samples: list[tuple[float, dict[str, int]]],
) -> list[float]:
    """Seconds, for each sample."""
    commits.sort(key=lambda commit: commit[0])
    times = [ended for ended, _ in commits]
    seconds = []
    first = 0
    for now, vector in samples:
        # What one point covers every later one does.
        while first < len(commits) and _covers(vector, commits[first][1]):
            first += 1
        known = bisect_right(times, now)
        uncovered = (
            ended for ended, tids in commits[first:known] if not _covers(vector, tids)
        )
        seconds.append(now - next(uncovered, now))
    return seconds


def _covers(vector: dict[str, int], tids: dict[str, int]) -> bool:
    return all(vector.get(storage, 0) >= last for storage, last in tids.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=10)
    parser.add_argument(
        "--rate", type=float, default=200, help="commits/s; 0: no limit"
    )
    parser.add_argument(
        "--pause", type=float, default=0.05, help="seconds from stamp to votes"
    )
    parser.add_argument(
        "--data", default="/dev/shm", help="folder for the storages (%(default)s)"
    )
    options = parser.parse_args()
    with (
        # Data.fs in memory: a disk that takes 5 ms for an fsync ends at 100 commits/s.
        tempfile.TemporaryDirectory(dir=options.data) as data,
        tempfile.TemporaryDirectory() as folder,
    ):
        site = Site(Path(data))
        # What the daemon writes is on disk.
        site.daemon = DaemonProcess(Path(folder), "-c", site.configuration)
        try:
            print(json.dumps(measure(site, options), indent=1))
        finally:
            site.close()


def measure(site: Site, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run."""
    # As bin/buildout configures it.
    site.daemon.arguments += ["-b", "1"]
    site.daemon.start()
    site.bootstrapped()
    addresses = {
        storage: server.address
        for server in (site.one, site.two)
        for storage in server.storages
    }
    pipes, processes = [], []
    for number in range(options.processes):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(
            target=commit_all_the_time, args=(addresses, number, options, theirs)
        )
        process.start()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    begin = time.monotonic() + 0.1
    cpu = site.daemon.cpu_seconds()
    for pipe in pipes:
        pipe.send(begin)
    samples = []
    peer = site.daemon.peer()
    while time.monotonic() < begin + options.seconds:
        vector = peer.dump()
        samples.append((time.monotonic(), vector))
        time.sleep(SAMPLE_SECONDS)
    commits = [commit for pipe in pipes for commit in pipe.recv()]
    site.wait_for_all()
    cpu = site.daemon.cpu_seconds() - cpu
    for process in processes:
        process.join()
    late = [sample for sample in samples if sample[0] > begin + 1]
    seconds = sorted(ages(commits, late))
    points = len({tuple(sorted(vector.items())) for _, vector in samples})
    records = sum(len(tids) for _, tids in commits)
    return {
        "commits/s": round(len(commits) / options.seconds),
        "age in ms: median": round(statistics.median(seconds) * 1000, 1),
        "age in ms: p99": round(seconds[int(len(seconds) * 0.99)] * 1000, 1),
        "age in ms: greatest": round(seconds[-1] * 1000, 1),
        "points/s": round(points / options.seconds, 1),
        "daemon CPU in us a record": round(cpu / records * 1e6),
        "load average": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
