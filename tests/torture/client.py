"""One process of load: threads that transfer money and cite each other's memos.

Runs until it is killed.  What became of each transaction goes into a file, a line
each, which survives the kill.
"""

import contextlib
import os
import random
import signal
import tempfile
import threading
import time
from typing import Any

import transaction
import ZEO
from transaction.interfaces import TransientError
from ZEO.Exceptions import ClientDisconnected
from ZODB.blob import Blob
from ZODB.DB import DB
from ZODB.POSException import ConflictError, POSKeyError, StateLoadError

import tidstorage
from tidstorage.hook.failed_commits import CommitOutcomeUnknown
from torture import bank

#: Seconds that a call waits for a server that is away.
PATIENCE = 2.0


class Refusal(Exception):
    """Raised by a resource that does not agree."""


class Refusing:
    """A resource that votes last, and against."""

    def sortKey(self) -> str:
        return "~~~"

    def tpc_vote(self, transaction: Any) -> None:
        raise Refusal

    def _nothing(self, transaction: Any) -> None:
        pass

    abort = tpc_begin = commit = tpc_finish = tpc_abort = _nothing


class Dying:
    """A resource that dies by SIGKILL, after the first storage has finished.

    The others have agreed by then, and never get their part.
    """

    def __init__(self, connections: list[Any]) -> None:
        self._key = f"{min(each.sortKey() for each in connections)}~"

    def sortKey(self) -> str:
        return self._key

    def tpc_finish(self, transaction: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _nothing(self, transaction: Any) -> None:
        pass

    abort = tpc_begin = commit = tpc_vote = tpc_abort = _nothing


class Worker(threading.Thread):
    """Transactions one after another, in a thread."""

    def __init__(
        self, request: dict[str, Any], number: int, databases: dict[str, Any]
    ) -> None:
        super().__init__(daemon=True)
        self.worker = f"{request['name']}.{number}"
        self.chance = random.Random(f"{request['seed']} {self.worker}")
        self.request = request
        self.databases = databases
        self.number = 0
        self.acknowledged: list[bank.Seen] = []
        self.tm = transaction.TransactionManager(explicit=self.chance.random() < 0.3)
        self.connection: Any = None
        # Some as fast as they can; all so would only measure the machine.
        self.pause = self.chance.choice((0.0, 0.02, 0.05, 0.05))

    #: What any thread of this process has read, and others may write down.
    known: dict[tuple[str, str], int] = {}

    def run(self) -> None:
        # Not an orphan's work, where whoever wanted it was killed.
        while os.getppid() != 1:
            key = f"{self.worker} {self.number + 1}"
            try:
                outcome = self.transact()
            except CommitOutcomeUnknown:
                outcome = "unknown"
            except ClientDisconnected:
                outcome = "disconnected"
            except ConflictError:
                outcome = "conflict"
            except Refusal:
                outcome = "refused"
            except POSKeyError:
                outcome = "dangling"
            except StateLoadError:
                # It refers to a storage that this process did not open.
                outcome = "unopened"
            except TransientError:
                outcome = "transient"
            except Exception as error:
                # Told, and judged by whoever reads the report.
                outcome = f"error {type(error).__name__}: {str(error)[:80]!r}"
            os.write(self.request["outcomes"], f"{key} {outcome}\n".encode())
            if outcome not in ("committed", "aborted"):
                self.forget()
                time.sleep(0.01)
            time.sleep(self.pause)
            self.number += 1

    def forget(self) -> None:
        try:
            self.tm.abort()
            if self.connection is not None and self.chance.random() < 0.5:
                self.connection.close()
                self.connection = None
        except Exception:
            # A connection that cannot even be closed is not used again.
            self.connection = None

    def transact(self) -> str:
        chance = self.chance
        self.tm.begin()
        if self.connection is None:
            # Always of the same database: ZODB mixes up siblings otherwise.
            self.connection = self.databases[max(self.databases)].open(self.tm)
        roots = {
            each: self.connection.get_connection(each).root() for each in self.databases
        }
        written = [each for each in roots if each in self.request["written"]]
        dies = self.request["dies"]
        wanted = 2 if dies else chance.choices((1, 2, len(written)), (3, 6, 1))[0]
        group = chance.sample(written, min(wanted, len(written)))
        seen, memo = self.look_around(roots)
        self.write(roots, group, seen, memo)
        self.tm.get().setExtendedInfo(
            bank.EXTENSION, (self.worker, self.number + 1, tuple(sorted(group)), seen)
        )
        if dies:
            connections = [self.connection.get_connection(each) for each in group]
            self.tm.get().join(Dying(connections))
        fate = chance.random()
        if fate < 0.05:
            self.tm.abort()
            return "aborted"
        if fate < 0.1:
            self.tm.get().join(Refusing())
        self.tm.commit()
        self.acknowledged = [(each, self.worker, self.number + 1) for each in group]
        if chance.random() < 0.1:
            self.connection.close()
            self.connection = None
        return "committed"

    def look_around(
        self, roots: dict[str, Any]
    ) -> tuple[tuple[bank.Seen, ...], tuple[str, bank.Memo] | None]:
        """Read some ledgers; what is known now, and a memo if one was found."""
        seen = {(storage, worker): last for storage, worker, last in self.acknowledged}
        memo = None
        for storage in self.chance.sample(sorted(roots), min(2, len(roots))):
            ledgers = roots[storage]["ledgers"]
            workers = list(ledgers.keys())
            if not workers:
                continue
            worker = self.chance.choice(workers)
            last = ledgers[worker].maxKey()
            seen[storage, worker] = last
            before = self.known.get((storage, worker), 0)
            self.known[storage, worker] = max(last, before)
            entry = ledgers[worker][last]
            if entry.memo is not None:
                memo = storage, entry.memo
                assert entry.memo.name
        known = [*self.known.items()]
        for place, last in self.chance.sample(known, min(2, len(known))):
            seen[place] = max(last, seen.get(place, 0))
        return tuple((*place, last) for place, last in seen.items()), memo

    def write(
        self,
        roots: dict[str, Any],
        group: list[str],
        seen: tuple[bank.Seen, ...],
        memo: tuple[str, bank.Memo] | None,
    ) -> None:
        chance = self.chance
        number = self.number + 1
        amount = chance.randrange(1, 10)
        # Accounts are in every transaction's way: without them some can be undone.
        moves = len(group) > 1 and not (self.request["dies"] and chance.random() < 0.5)
        deltas = [-amount, amount] if moves else []
        for place, storage in enumerate(group):
            root = roots[storage]
            delta = deltas[place] if place < len(deltas) else 0
            entry = bank.Entry(tuple(sorted(group)), seen, delta)
            if delta:
                root["accounts"][chance.randrange(bank.ACCOUNTS)].balance += delta
            if chance.random() < 0.5:
                entry.memo = bank.Memo(f"{self.worker} {number} {storage}")
            if memo is not None and memo[0] != storage:
                entry.cited = memo[1], memo[1].name
            if storage in self.request["blobs"] and chance.random() < 0.15:
                held = f"{self.worker} {number}".encode()
                blob = Blob()
                with blob.open("w") as stream:
                    stream.write(held)
                entry.blob = blob, held
            bank.ledger_of(root, self.worker)[number] = entry


def open_databases(request: dict[str, Any]) -> dict[str, Any]:
    """All databases, or none where a server does not answer."""
    databases: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for storage, address in request["storages"].items():
            options: dict[str, Any] = {}
            if storage in request["blobs"]:
                options["blob_dir"] = f"{request['folder']}/{request['name']}-{storage}"
            client = ZEO.client(
                tuple(address), storage=storage, wait_timeout=PATIENCE, **options
            )
            failed = stack.enter_context(contextlib.ExitStack())
            failed.callback(client.close)
            database = DB(client, database_name=storage, databases=databases)
            failed.pop_all()
            # Two that are open under one id are refused, and not stamped.
            stack.callback(database.close)
        stack.pop_all()
    return databases


def run(request: dict[str, Any]) -> None:
    """The whole process; see `torture.site` for the request."""
    base = f"{request['folder']}/{request['name']}"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    output = os.open(f"{base}.output", flags)
    os.dup2(output, 1)
    os.dup2(output, 2)
    request["outcomes"] = os.open(f"{base}.outcomes", flags)
    # Blobs that a kill leaves behind go with the round's folder.
    tempfile.tempdir = request["folder"]
    tidstorage.install(request["daemon"])
    while True:
        try:
            databases = open_databases(request)
            break
        except ClientDisconnected:
            time.sleep(0.1)
    workers = [
        Worker(request, number, databases) for number in range(request["threads"])
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
