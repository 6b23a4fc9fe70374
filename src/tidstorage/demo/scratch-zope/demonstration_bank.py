"""The bank of `bin/cluster demo`: money and references across databases.

The Zopes of its scratch cluster have the folder of this file on ``sys.path``.  No
other Zope has it, and the folder is no package: nobody else can publish a bank.

Each storage has a vault with accounts, a ledger, memos and citations.  What the
published methods do is chosen so that every way to break a set of files shows:

- a transfer takes from one storage and gives to another, and both ledgers hold
  the *same* receipt, an object of the first that the second refers to;
- a memo is written to one storage alone, and a later transaction, in another
  storage alone, refers to a memo that it read.
"""

from typing import Any

import transaction
from AccessControl.class_init import InitializeClass
from AccessControl.SecurityInfo import ClassSecurityInfo
from BTrees.OOBTree import OOBTree
from OFS.SimpleItem import SimpleItem
from persistent import Persistent


class Account(Persistent):
    """One balance, an int."""

    def __init__(self, balance: int) -> None:
        self.balance = balance


class Receipt(Persistent):
    """What a transfer moved; one object, referred to from both ledgers."""

    def __init__(self, source: str, target: str, amount: int) -> None:
        self.source = source
        self.target = target
        self.amount = amount


class Memo(Persistent):
    """An object that a later transaction of another storage refers to."""

    def __init__(self, text: str) -> None:
        self.text = text


class Vault(Persistent):
    """What the bank keeps in one storage."""

    def __init__(self, accounts: int, balance: int) -> None:
        self.accounts = OOBTree(
            {str(number): Account(balance) for number in range(accounts)}
        )
        self.ledger = OOBTree()
        self.memos = OOBTree()
        self.citations = OOBTree()


class Bank(SimpleItem):
    """Published at ``/bank``; its methods answer a word of plain text."""

    id = "bank"
    meta_type = "TIDStorage demonstration bank"
    security = ClassSecurityInfo()

    def _vault(self, storage: str) -> Vault:
        application = self.getPhysicalRoot()
        folder = application if storage == "root" else application[storage]
        vault: Vault = folder._p_jar.root()["bank_vault"]
        return vault

    @security.public
    def transfer(
        self, id: str, source: str, target: str, account: str, amount: str
    ) -> str:
        """Move money between the same account number of two storages."""
        giving, taking = self._vault(source), self._vault(target)
        money = int(amount)
        giving.accounts[account].balance -= money
        taking.accounts[account].balance += money
        receipt = Receipt(source, target, money)
        giving._p_jar.add(receipt)
        giving.ledger[id] = receipt
        taking.ledger[id] = receipt
        transaction.get().note(f"transfer {id} from {source} to {target}")
        return "moved"

    @security.public
    def memo(self, id: str, storage: str) -> str:
        """Write a memo into one storage, and nothing anywhere else."""
        self._vault(storage).memos[id] = Memo(id)
        return "written"

    @security.public
    def cite(self, id: str, source: str, target: str) -> str:
        """Refer from one storage to a memo that was read from another."""
        memo = self._vault(source).memos.get(id)
        if memo is None:
            return "unknown"
        self._vault(target).citations[id] = memo
        return "cited"

    @security.public
    def forget(self, id: str, storage: str) -> str:
        """Take a memo out of its vault; whoever cites it still refers to it."""
        del self._vault(storage).memos[id]
        return "forgotten"

    @security.public
    def recite(self, id: str, storage: str) -> str:
        """The text of a memo, by way of a citation."""
        text: str = self._vault(storage).citations[id].text
        return text


InitializeClass(Bank)


def open_bank(
    application: Any, storages: list[str], accounts: int, balance: int
) -> None:
    """Create the bank with a vault in each storage; the caller commits.

    A vault hangs on its database's root, where the checker finds it without
    Zope; ``storages`` are the ids, each mounted at "/" + id but for ``root``.
    """
    for storage in storages:
        folder = application if storage == "root" else application[storage]
        folder._p_jar.root()["bank_vault"] = Vault(accounts, balance)
    application._setObject("bank", Bank())
