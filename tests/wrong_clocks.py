"""Processes whose clocks are wrong, and when clients were told of their commits."""

import contextlib
import datetime
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import stamping_writer
import transaction
from real_processes import PATIENCE, wait_until
from ZODB.FileStorage import FileIterator


def shifted(offset: str | Path) -> dict[str, str]:
    """The environment of a process whose clock differs: "-6s", or a file with that."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("there is no libfaketime; as root: apt-get install faketime")
    said = {"FAKETIME": str(offset)}
    if isinstance(offset, Path):
        said = {"FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
    never = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": str(found[0]), **said, **never}


def now() -> datetime.datetime:
    """The moment by the clock of this machine, in UTC."""
    return datetime.datetime.now(datetime.UTC)


@dataclass
class Told:
    """One transaction, which storages it writes, and when it was acknowledged."""

    number: int
    group: Sequence[str]
    begun: datetime.datetime
    acknowledged: datetime.datetime | None = None


class Ledger:
    """Numbered transactions, and when clients were told of them."""

    def __init__(self, addresses: Mapping[str, tuple[str, int]]) -> None:
        self.entries: list[Told] = []
        self._addresses = addresses
        self._numbers = itertools.count(1)

    @contextlib.contextmanager
    def writing(self, *group: str, pause: float = 0.005) -> Iterator[None]:
        """Commit on and on, for as long as the context lasts."""
        ended, failed = threading.Event(), list[BaseException]()
        before = len(self.entries)

        def write() -> None:
            # Here, since transactions belong to threads.
            connections = stamping_writer.open_connections(self._addresses)
            try:
                while not ended.is_set():
                    self._commit(connections, group)
                    time.sleep(pause)
            except BaseException as error:
                failed.append(error)
            finally:
                transaction.abort()
                for connection in connections.values():
                    connection.db().close()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            wait_until(lambda: failed or len(self.entries) > before + 3, "commits")
            yield
        finally:
            ended.set()
            thread.join(PATIENCE)
        assert not failed, failed

    def _commit(self, connections, group: Sequence[str]) -> None:
        group = group or tuple(connections)
        told = Told(next(self._numbers), group, now())
        transaction.begin()
        for storage in group:
            connections[storage].root()["number"] = told.number
        stamping_writer.add_stamp(connections, group)
        transaction.get().note(f"number {told.number}")
        transaction.commit()
        told.acknowledged = now()
        self.entries.append(told)

    def acknowledged_after(self, moment: datetime.datetime) -> Told:
        """The first that was acknowledged after a moment; waits for it."""
        return wait_until(
            lambda: next(
                (told for told in self.entries if told.acknowledged > moment), None
            ),
            "a commit is acknowledged",
        )

    def wrong(self, folder: Path, moment: datetime.datetime) -> dict[str, list[int]]:
        """What is lost, too late or torn in files that are to be as of a moment."""
        held = {
            path.parent.name: {
                int(found.description.split()[1])
                for found in FileIterator(str(path))
                if found.description.startswith(b"number ")
            }
            for path in folder.glob("*/Data.fs")
        }
        lost, late, torn = [], [], []
        for told in self.entries:
            there = [storage for storage in told.group if told.number in held[storage]]
            if there and len(there) < len(told.group):
                torn.append(told.number)
            if told.acknowledged <= moment and len(there) < len(told.group):
                lost.append(told.number)
            if told.begun > moment and there:
                late.append(told.number)
        found = {"lost": lost, "too late": late, "torn": torn}
        return {what: numbers for what, numbers in found.items() if numbers}
