"""What the objects of a restored set say, read with plain ZODB, and what is wrong."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError

from torture import bank
from torture.bank import Key, Seen
from torture.judge import Undone


@dataclass(slots=True)
class State:
    """What the objects of a set of files say; ``unreadable``: in words.

    ends: {storage: last TID}.
    """

    entries: dict[str, dict[Key, "Entry"]] = field(default_factory=dict)
    balances: dict[str, int] = field(default_factory=dict)
    unreadable: dict[Key, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a ledger, as it was read.

    cited: where what it refers to was made.  wrong: what is wrong with it, or "".
    """

    storages: tuple[str, ...]
    seen: tuple[Seen, ...]
    delta: int
    cited: tuple[str, Key] | None = None
    wrong: str = ""


def read_state(
    files: Mapping[str, Path], blobs: Mapping[str, Path] | None = None
) -> State:
    """Read a set of files that nobody writes; blobs: judged where they are given."""
    state = State()
    databases: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for storage, path in files.items():
            folder = (blobs or {}).get(storage)
            opened = FileStorage(
                str(path), read_only=True, blob_dir=folder and str(folder)
            )
            state.ends[storage] = int.from_bytes(opened.lastTransaction(), "big")
            database = DB(opened, database_name=storage, databases=databases)
            stack.callback(database.close)
        connection = databases[next(iter(files))].open()
        stack.callback(connection.close)
        for storage in files:
            root = connection.get_connection(storage).root()
            _read_storage(state, storage, root, bool(blobs))
    return state


def _read_storage(state: State, storage: str, root: Any, with_blobs: bool) -> None:
    state.entries[storage] = {}
    try:
        state.balances[storage] = sum(
            each.balance for each in root["accounts"].values()
        )
        ledgers = [(worker, dict(held)) for worker, held in root["ledgers"].items()]
    except (POSKeyError, KeyError) as error:
        state.broken.append(f"{storage}: {error!r}")
        return
    for worker, held in ledgers:
        for number, entry in held.items():
            key = (worker, number)
            try:
                state.entries[storage][key] = Entry(
                    tuple(entry.storages),
                    tuple(entry.seen),
                    entry.delta,
                    _cited_by(entry),
                    _fault_of(entry, with_blobs),
                )
            except POSKeyError as error:
                state.unreadable[key] = f"{key} on {storage}: {error!r}"


def _cited_by(entry: Any) -> tuple[str, Key] | None:
    if entry.cited is None:
        return None
    worker, number, storage = entry.cited[1].split()
    return storage, (worker, int(number))


def _fault_of(entry: Any, with_blobs: bool) -> str:
    if entry.memo is not None and not entry.memo.name:
        return "its memo is empty"
    if entry.cited is not None:
        memo, name = entry.cited
        try:
            if memo.name != name:
                return f"cites {name}, and finds {memo.name}"
        except (POSKeyError, AttributeError) as error:
            return f"cites {name}, which is not there: {error!r}"
    if entry.blob is not None and with_blobs:
        blob, held = entry.blob
        try:
            with blob.open("r") as stream:
                if stream.read() != held:
                    return "its blob holds something else"
        except (OSError, POSKeyError) as error:
            return f"its blob is not there: {error!r}"
    return ""


def faults_of_state(
    state: State,
    torn: Mapping[Key, frozenset[str]],
    undone: Undone,
    taken_back: Undone,
) -> list[str]:
    """What is broken in a restored set.

    torn: half commits it may hold, and lack.  undone: what may be missing, since
    it was undone.  taken_back: what is, where the set reaches so far.
    """
    found = list(state.broken)
    found += [text for key, text in state.unreadable.items() if key not in torn]
    found += [
        f"{key} on {storage}: undone by {tid:#x}, and is there"
        for (storage, key), tid in taken_back.items()
        if tid <= state.ends[storage] and key in state.entries[storage]
    ]
    missing_money = 0
    for storage, entries in state.entries.items():
        expected = bank.ACCOUNTS * bank.OPENING_BALANCE + sum(
            each.delta for each in entries.values()
        )
        if state.balances.get(storage) != expected:
            found.append(
                f"{storage}: its accounts hold {state.balances.get(storage)}, its"
                f" ledgers say {expected}"
            )
        for key, entry in entries.items():
            if key in torn:
                missing_money += entry.delta
                found += [
                    f"{key} on {storage}: torn ({other}), but that came"
                    for other in entry.storages
                    if other in torn[key] and key in state.entries[other]
                ]
            found += [
                f"{key} on {storage}: torn, not on {other}"
                for other in entry.storages
                if key not in state.entries[other]
                and other not in torn.get(key, frozenset())
                and (other, key) not in undone
            ]
            found += [
                f"{key} on {storage}: saw {other} {worker} {number}, not there"
                for other, worker, number in entry.seen
                if (worker, number) not in state.entries[other]
                and (other, (worker, number)) not in undone
            ]
            if entry.wrong and key not in torn and entry.cited not in undone:
                found.append(f"{key} on {storage}: {entry.wrong}")
    total = sum(state.balances.values()) - missing_money
    if total != len(state.entries) * bank.ACCOUNTS * bank.OPENING_BALANCE:
        found.append(f"the total balance is {total}")
    return found


def dangling_after_undo(state: State, undone: Undone) -> int:
    """Number of references to what was taken back after it had been read."""
    return sum(
        bool(entry.wrong) and entry.cited in undone
        for entries in state.entries.values()
        for entry in entries.values()
    )


def size(state: State) -> int:
    """Number of entries in all ledgers."""
    return sum(len(each) for each in state.entries.values())
