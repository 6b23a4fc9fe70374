"""How old the daemon's point is under load: ``python benchmarks/freshness.py``.

Real ZEO servers with 2 storages each, a daemon that observes them, and committers in
processes of their own: each transaction writes two storages, and takes 50 ms from its
first tpc_begin to its votes.  The age of the point is, as in docs/design.rst, the time
since the oldest commit ended that the point does not cover; it is sampled with DUMP.
With ``--pause 0`` committers go as fast as they can.
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

from tidstorage import stamp, tid

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from sites import Site

PAIRS = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("a", "c"), ("b", "d")]
SAMPLE_SECONDS = 0.02


def commit_all_the_time(
    addresses: dict[str, Any], number: int, options: argparse.Namespace, pipe: Any
) -> None:
    """One process; its threads have clients of their own, as Zopes have not."""
    commits: list[tuple[float, dict[str, int]]] = []
    end = time.monotonic() + options.seconds
    threads = [
        threading.Thread(
            target=_commit_until,
            args=(addresses, number * options.threads + each, end, options, commits),
        )
        for each in range(options.threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send(commits)


def _commit_until(
    addresses: dict[str, Any],
    seed: int,
    end: float,
    options: argparse.Namespace,
    commits: list[tuple[float, dict[str, int]]],
) -> None:
    clients = {
        each: ZEO.client(address, storage=each) for each, address in addresses.items()
    }
    interval = options.processes * options.threads / options.rate if options.rate else 0
    due = time.monotonic() + seed * interval / (options.processes * options.threads)
    number = seed
    while time.monotonic() < end:
        if interval:
            time.sleep(max(0.0, due - time.monotonic()))
            due += interval
        pair = PAIRS[number % len(PAIRS)]
        number += 1
        vector = {
            each: tid.from_bytes(client.lastTransaction()) + 1
            for each, client in clients.items()
        }
        data = stamp.encode(os.urandom(16), pair, vector)
        metadata = TransactionMetaData(extension={stamp.KEY: data})
        mine = [clients[each] for each in pair]
        for client in mine:
            client.tpc_begin(metadata)
            client.store(client.new_oid(), b"\0" * 8, b"x" * 100, "", metadata)
        time.sleep(options.pause)
        for client in mine:
            client.tpc_vote(metadata)
        tids = {
            each: tid.from_bytes(clients[each].tpc_finish(metadata)) for each in pair
        }
        commits.append((time.monotonic(), tids))
    for client in clients.values():
        client.close()


def ages(
    commits: list[tuple[float, dict[str, int]]],
    samples: list[tuple[float, dict[str, int]]],
) -> list[float]:
    """Seconds, for each sample."""
    commits.sort(key=lambda each: each[0])
    times = [ended for ended, _ in commits]
    found = []
    first = 0
    for now, vector in samples:
        # What one point covers every later one does.
        while first < len(commits) and _covers(vector, commits[first][1]):
            first += 1
        known = bisect_right(times, now)
        uncovered = (
            ended for ended, tids in commits[first:known] if not _covers(vector, tids)
        )
        found.append(now - next(uncovered, now))
    return found


def _covers(vector: dict[str, int], tids: dict[str, int]) -> bool:
    return all(vector.get(each, 0) >= last for each, last in tids.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=5)
    parser.add_argument(
        "--rate", type=float, default=200, help="commits/s; 0: no limit"
    )
    parser.add_argument(
        "--pause", type=float, default=0.05, help="seconds to the votes"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
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
        each: server.address
        for server in (site.one, site.two)
        for each in server.storages
    }
    cpu = site.daemon.cpu_seconds()
    pipes, processes = [], []
    for number in range(options.processes):
        receiving, sending = multiprocessing.Pipe(False)
        process = multiprocessing.Process(
            target=commit_all_the_time, args=(addresses, number, options, sending)
        )
        process.start()
        pipes.append(receiving)
        processes.append(process)
    samples = []
    peer = site.daemon.peer()
    while not all(pipe.poll() for pipe in pipes):
        vector = peer.dump()
        samples.append((time.monotonic(), vector))
        time.sleep(SAMPLE_SECONDS)
    commits = [commit for pipe in pipes for commit in pipe.recv()]
    site.wait_for_all()
    for process in processes:
        process.join()
    begun = min(ended for ended, _ in commits) + 1
    found = sorted(ages(commits, [each for each in samples if each[0] > begun]))
    points = len({tuple(sorted(vector.items())) for _, vector in samples})
    records = sum(len(tids) for _, tids in commits)
    return {
        "commits/s": round(len(commits) / options.seconds),
        "age in ms: median": round(statistics.median(found) * 1000, 1),
        "age in ms: p99": round(found[int(len(found) * 0.99)] * 1000, 1),
        "age in ms: greatest": round(found[-1] * 1000, 1),
        "points/s": round(points / options.seconds, 1),
        "daemon CPU in us a record": round(
            (site.daemon.cpu_seconds() - cpu) / records * 1e6
        ),
        "load average": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
