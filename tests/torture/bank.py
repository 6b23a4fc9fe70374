"""What the clients write and the judge reads: accounts, and a ledger of all writes.

Every transaction leaves an entry in the ledger of each storage that it writes.
An entry tells what else belongs to the transaction and what it had read before,
so that the data alone show whether anything is torn, or missing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transaction
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

#: Key in ``transaction.extension``: (worker, number, storages, seen).
EXTENSION = "torture"
ACCOUNTS = 6
OPENING_BALANCE = 1000

#: (worker, number): names one transaction.
Key = tuple[str, int]
#: (storage id, worker, number): an entry that was read, or known of.
Seen = tuple[str, str, int]


class Account(Persistent):
    """balance: changes by transfers only."""

    def __init__(self) -> None:
        self.balance = OPENING_BALANCE


class Memo(Persistent):
    """Something that transactions in other storages refer to."""

    def __init__(self, name: str) -> None:
        self.name = name


class Entry(Persistent):
    """One transaction in one storage.

    delta: what it added to an account here.  memo: made here by it.  cited:
    (reference to a memo of another storage, its name), or None.  blob: (blob,
    what it holds), or None.
    """

    def __init__(
        self, storages: tuple[str, ...], seen: tuple[Seen, ...], delta: int
    ) -> None:
        self.storages = storages
        self.seen = seen
        self.delta = delta
        self.memo: Memo | None = None
        self.cited: tuple[Memo, str] | None = None
        self.blob: tuple[Any, bytes] | None = None


def ledger_of(root: Any, worker: str) -> Any:
    """The ledger of one worker in one storage, made where it is missing."""
    ledgers = root["ledgers"]
    if worker not in ledgers:
        ledgers[worker] = IOBTree()
    return ledgers[worker]


def open_accounts(data_files: Mapping[str, Path]) -> None:
    """Make the files of a new bank, without any server."""
    databases: dict[str, Any] = {}
    for storage, path in data_files.items():
        DB(FileStorage(str(path)), database_name=storage, databases=databases)
    manager = transaction.TransactionManager()
    for database in databases.values():
        root = database.open(manager).root()
        root["accounts"] = PersistentMapping(
            {number: Account() for number in range(ACCOUNTS)}
        )
        root["ledgers"] = OOBTree()
        manager.commit()
    for database in databases.values():
        database.close()
