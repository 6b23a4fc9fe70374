"""Real ZEO servers, a daemon that observes them, and writers of every kind."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ZEO
from daemons import DaemonProcess, journal_entries
from real_processes import PATIENCE, ZeoServer, wait_until
from ZODB.Connection import TransactionMetaData

from tidstorage.coherence import stamp, tid
from tidstorage.coherence.cut import Record, coherent_cut
from tidstorage.coherence.point import Point
from tidstorage.engines.filestorage import last_tid, read_records
from tidstorage.engines.filestorage.abandoned_votes import read_abandoned_votes
from tidstorage.points import tid_log
from tidstorage.points.entries import (
    Damage,
    Entry,
    Published,
)
from tidstorage.wire import client as wire_client

TESTS = Path(__file__).parent


class Site:
    """Two ZEO servers with two storages each, and a daemon that observes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.one = ZeoServer(folder / "one", ["a", "b"], "one").start()
        self.two = ZeoServer(folder / "two", ["c", "d"], "two").start()
        self.configuration = folder / "tidstorage.conf"
        self.describe()
        self.daemon = DaemonProcess(folder, "-c", self.configuration)
        self.writers: list[subprocess.Popen[str]] = []

    def describe(self, *, local: bool = False, also: str = "") -> None:
        """Write the daemon's configuration."""
        self.configuration.write_text(
            also
            + "".join(
                f"<storage {each}>\nserver {server.address[0]}:{server.address[1]}\n"
                + (f"path {server.data_file(each)}\n" if local else "")
                + "</storage>\n"
                for server in (self.one, self.two)
                for each in server.storages
            )
        )

    @property
    def files(self) -> dict[str, Path]:
        return {
            each: server.data_file(each)
            for server in (self.one, self.two)
            for each in server.storages
        }

    def writer(self, **options: object) -> subprocess.Popen[str]:
        """Start a writer; returns when its first commit is done."""
        storages = {
            each: server.address
            for server in (self.one, self.two)
            for each in server.storages
        }
        quiet = options.pop("quiet", False)
        request = {"seed": 1, "storages": storages, **options}
        process = subprocess.Popen(
            [sys.executable, str(TESTS / "stamping_writer.py"), json.dumps(request)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
        )
        self.writers.append(process)
        assert process.stdout is not None
        if options.get("count", 1):
            assert process.stdout.readline() == "ready\n"
        return process

    def write(self, count: int, **options: object) -> None:
        """Some transactions, from one process that ends well."""
        process = self.writer(count=count, **options)
        assert process.wait(PATIENCE) == 0

    def dump(self) -> Mapping[str, int]:
        peer = self.daemon.peer()
        try:
            return peer.dump()
        finally:
            peer.close()

    def observed(self) -> Any:
        """What the daemon says of its observation, for people."""
        return wire_client.state("127.0.0.1", self.daemon.port, 30)["observed"]

    def ends(self) -> dict[str, int]:
        """The last TID of each file."""
        return {each: last_tid(path) for each, path in self.files.items()}

    def wait_for_all(self) -> dict[str, int]:
        """Wait until what is published covers all that was written."""
        ends = self.ends()
        wait_until(lambda: self.dump() == ends, f"the point covers {ends}")
        return ends

    def bootstrapped(self) -> Mapping[str, int]:
        return wait_until(self.dump, "the bootstrap")

    def points(self) -> list[Point]:
        return [
            entry.point
            for entry in journal_entries(self.daemon.journal)
            if isinstance(entry, Published)
        ]

    def cut(self, until: Mapping[str, int] | None = None) -> dict[str, int]:
        """The greatest coherent cut of the files, up to a vector if one is given.

        Half commits that the daemon has proven by asking servers are believed.
        """
        records = {
            each: [
                found.record
                for found in read_records(path, until=until[each] if until else None)
            ]
            for each, path in self.files.items()
        }
        ends = {each: held[-1].tid if held else 0 for each, held in records.items()}
        for each, path in self.files.items():
            # A server that is killed amid a vote takes its TID for the last one.
            votes = [vote.tid for vote in read_abandoned_votes(path)]
            records[each] += [Record(tid) for tid in votes if tid > ends[each]][-1:]
        found = coherent_cut(records, dead=self.proven_dead())
        return {each: min(tid, ends[each]) for each, tid in found.tolerant.items()}

    def proven_dead(self) -> set[tuple[bytes, str]]:
        """What the journal calls half commits; none of them came after all."""
        dead = {
            (entry.half_commit.commit_id, missing)
            for entry in journal_entries(self.daemon.journal)
            if isinstance(entry, Damage)
            for missing in entry.half_commit.missing
        }
        for each, path in self.files.items():
            for found in read_records(path):
                assert not found.stamp or (found.stamp.commit_id, each) not in dead
        return dead

    def is_coherent(self, vector: Mapping[str, int]) -> bool:
        """By the files: nothing in the vector is torn, or was seen and is not in."""
        return self.cut(vector) == dict(vector)

    def check_all_points(self) -> None:
        """Everything the daemon ever published is coherent, and only grew."""
        before: Mapping[str, int] = {}
        found = list(tid_log.read_all(self.daemon.tid_log))
        for state in found[:: max(1, len(found) // 20)]:
            assert self.is_coherent(state.vector), state
            assert all(state.vector[each] >= last for each, last in before.items())
            before = state.vector
        self.check_times_of_points()

    def check_times_of_points(self) -> None:
        """Whoever looks for a point by its time relies on that they never go back."""
        for former, point in itertools.pairwise(self.points()):
            assert (point.timeline, point.time) >= (former.timeline, former.time)

    def close(self) -> None:
        for process in self.writers:
            process.kill()
            process.wait()
        if self.daemon.process is not None:
            self.daemon.kill()
        self.one.kill()
        self.two.kill()


class Committer:
    """A client of all storages that commits step by step, stamped by hand."""

    def __init__(self, site: Site) -> None:
        self.clients: dict[str, Any] = {
            each: ZEO.client(server.address, storage=each)
            for server in (site.one, site.two)
            for each in server.storages
        }

    def vector(self) -> dict[str, int]:
        """What this process could have seen by now."""
        return {
            each: tid.from_bytes(client.lastTransaction()) + 1
            for each, client in self.clients.items()
        }

    def vote(
        self, *storages: str, vector: Mapping[str, int] | None = None
    ) -> "VotedTransaction":
        """A transaction on these storages, up to its votes."""
        return VotedTransaction(
            {each: self.clients[each] for each in sorted(storages)},
            self.vector() if vector is None else vector,
        )

    def commit(self, *storages: str, **options: Any) -> dict[str, int]:
        """A whole transaction; {storage id: TID}."""
        voted = self.vote(*storages, **options)
        return {each: voted.finish(each) for each in sorted(storages)}

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


class VotedTransaction:
    """All votes are in: what is durable, and where, is up to the test."""

    def __init__(self, clients: Mapping[str, Any], vector: Mapping[str, int]) -> None:
        self.commit_id = os.urandom(16)
        self._clients = clients
        data = stamp.encode(self.commit_id, sorted(clients), vector)
        self._metadata = TransactionMetaData(extension={stamp.KEY: data})
        for client in clients.values():
            client.tpc_begin(self._metadata)
            client.store(client.new_oid(), b"\0" * 8, b"x", "", self._metadata)
        for client in clients.values():
            client.tpc_vote(self._metadata)

    def finish(self, storage: str) -> int:
        """The TID it got on that storage."""
        return tid.from_bytes(self._clients[storage].tpc_finish(self._metadata))

    def abort(self, storage: str) -> None:
        self._clients[storage].tpc_abort(self._metadata)


def unstamped(site: Site, count: int) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import stamping_writer as w, json, transaction\n"
        "w.add_stamp = lambda *a: None\n"
        "c = w.open_connections(json.loads(sys.argv[2]))\n"
        f"for n in range({count}): w.commit_group(c, sorted(c))\n"
    )
    storages = {
        each: server.address
        for server in (site.one, site.two)
        for each in server.storages
    }
    subprocess.run(
        [sys.executable, "-c", code, str(TESTS), json.dumps(storages)], check=True
    )


def entries_of(site: Site) -> list[Entry]:
    return journal_entries(site.daemon.journal)
