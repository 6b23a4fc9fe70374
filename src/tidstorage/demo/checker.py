"""Checks restored files, whoever restored them: it knows the bank, and no stamps.

It calls broken what the bank's owner would: money that appeared or vanished, a transfer
that only one side knows, a reference to nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persistent import Persistent
from ZODB.broken import find_global
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from tidstorage.cluster.cluster import ROOT_DATABASE
from tidstorage.engines.filestorage import references

#: What an account of the bank begins with.
OPENING_BALANCE = 1000
#: The module of the bank's classes, which only the scratch cluster's Zopes can import.
BANK_MODULE = "demonstration_bank"


class _Stored(Persistent):  # type: ignore[misc]
    """An object of the bank, with its attributes and none of its methods."""


@dataclass(slots=True)
class Findings:
    """What a set of files holds, and what is broken in it.

    transactions: {storage id: number of records}.  money_missing: expected
    less found; negative where money appeared.  torn: transfer ids that one
    side has and the other lacks.  dangling: references to nothing.
    """

    transactions: dict[str, int] = field(default_factory=dict)
    transfers: int = 0
    money_missing: int = 0
    torn: set[str] = field(default_factory=set)
    dangling: list[references.Dangling] = field(default_factory=list)

    @property
    def broken(self) -> int:
        """How many things are wrong; 0: the set of files is coherent."""
        return len(self.torn) + len(self.dangling) + bool(self.money_missing)


@contextmanager
def _opened(data_files: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        databases: dict[str, Any] = {}
        for storage_id, path in data_files.items():
            storage = FileStorage(str(path), read_only=True)
            name = ROOT_DATABASE if storage_id == "root" else storage_id
            database = DB(
                storage,
                database_name=name,
                databases=databases,
                class_factory=_find_class,
            )
            stack.callback(database.close)
        yield databases


def _find_class(_connection: Any, module: str, name: str) -> Any:
    return _Stored if module == BANK_MODULE else find_global(module, name)


def check(data_files: Mapping[str, Path], expected_money: int) -> Findings:
    """Check a set of {storage id: Data.fs}; nothing may be writing to them."""
    findings = Findings()
    with _opened(data_files) as databases:
        storages = {name: database.storage for name, database in databases.items()}
        for name, storage in storages.items():
            storage_id = "root" if name == ROOT_DATABASE else name
            findings.transactions[storage_id] = sum(1 for _ in storage.iterator())
        findings.dangling = list(references.find_dangling(storages))
        connection = databases[ROOT_DATABASE].open()
        try:
            vaults = {
                name: connection.get_connection(name).root()["bank_vault"]
                for name in databases
            }
            _check_bank(vaults, expected_money, findings)
        finally:
            connection.close()
    return findings


def _check_bank(
    vaults: Mapping[str, Any], expected_money: int, findings: Findings
) -> None:
    money = sum(
        account.balance
        for vault in vaults.values()
        for account in vault.accounts.values()
    )
    findings.money_missing = expected_money - money
    ledgers: dict[str, int] = {}
    for vault in vaults.values():
        for transfer_id in vault.ledger:
            ledgers[transfer_id] = ledgers.get(transfer_id, 0) + 1
    findings.transfers = len(ledgers)
    findings.torn = {name for name, count in ledgers.items() if count != 2}
