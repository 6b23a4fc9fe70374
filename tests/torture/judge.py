"""The judge: reads files with plain ZODB, and knows nothing of stamps or cuts.

Nothing of ours is used for a verdict.  The only thing that is read of a stamp are
the 16 bytes of the commit id, since that is how our tools name what is torn.
"""

import ast
import contextlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ZODB.DB import DB
from ZODB.FileStorage import FileIterator, FileStorage
from ZODB.POSException import POSKeyError

from torture import bank
from torture.bank import Key, Seen

Vector = Mapping[str, int]
#: {(storage, transaction): TID of the record that undid it there}.
Undone = Mapping[tuple[str, Key], int]
#: What our tool calls an undo, see `tidstorage.undoing`.
_UNDO = re.compile("undo half commit ([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Record:
    """One transaction record of one file; commit: hex, as our tools name it."""

    tid: int
    key: Key
    storages: tuple[str, ...]
    seen: tuple[Seen, ...]
    commit: str


@dataclass(slots=True)
class History:
    """All records of a timeline, those that packs removed too.

    records: {storage: {key: record}}.  ends: {storage: last TID}.  An undo is a
    transaction like others, and is said in ``undone`` besides.
    """

    records: dict[str, dict[Key, Record]]
    ends: dict[str, int]
    undone: dict[tuple[str, Key], int] = field(default_factory=dict)

    def torn(self) -> dict[Key, frozenset[str]]:
        """{key: storages that lack it}; nobody may be writing any more."""
        found: dict[Key, frozenset[str]] = {}
        for held in self.records.values():
            for key, record in held.items():
                missing = [
                    each
                    for each in record.storages
                    if key not in self.records[each] and (each, key) not in self.undone
                ]
                if missing:
                    found[key] = frozenset(missing)
        return found

    def commits(self) -> dict[str, Key]:
        return {
            record.commit: key
            for held in self.records.values()
            for key, record in held.items()
        }


def read_history(files: Mapping[str, Iterable[Path]]) -> History:
    """files: for each storage those before its packs, and the present one last."""
    history = History({each: {} for each in files}, dict.fromkeys(files, 0))
    undos: list[tuple[str, str, Record]] = []
    for storage, paths in files.items():
        for path in paths:
            iterator = FileIterator(str(path))
            with contextlib.closing(iterator):
                for each in iterator:
                    tid = int.from_bytes(each.tid, "big")
                    history.ends[storage] = tid
                    commit = each.extension.get("tids", b"")[1:17].hex()
                    if undo := _UNDO.fullmatch(each.description.decode()):
                        record = Record(tid, (f"undo {commit}", 0), (), (), commit)
                        undos.append((storage, undo[1], record))
                    said = each.extension.get(bank.EXTENSION)
                    if said is None:
                        continue
                    worker, number, storages, seen = said
                    history.records[storage][worker, number] = Record(
                        tid,
                        (worker, number),
                        tuple(storages),
                        tuple(tuple(one) for one in seen),
                        commit,
                    )
    _add_undos(history, undos)
    return history


def _add_undos(history: History, undos: list[tuple[str, str, Record]]) -> None:
    """An undo belongs to all storages that hold what it undoes."""
    keys = history.commits()
    for storage, commit, record in undos:
        key = keys.get(commit)
        if key is None:
            # Packed away since: nothing is left to see of it.
            continue
        held = tuple(
            each for each, records in history.records.items() if key in records
        )
        history.records[storage][record.key] = replace(record, storages=held)
        history.undone[storage, key] = record.tid


def faults_of_vector(
    history: History, vector: Vector, named: Collection[str], floor: Vector
) -> list[str]:
    """Why a vector is no coherent cut of a history; named: commits known as torn.

    What is torn at or below the floor is taken as it is.
    """
    found = []
    for storage, held in history.records.items():
        for key, record in held.items():
            if record.tid > vector.get(storage, 0):
                continue
            for other in record.storages:
                partner = history.records[other].get(key)
                if partner is None:
                    if record.commit not in named and record.tid > floor.get(
                        storage, 0
                    ):
                        found.append(f"{key} on {storage}: torn, not named ({other})")
                elif partner.tid > vector.get(other, 0):
                    found.append(f"{key} on {storage}: split from {other}")
            for other, worker, number in record.seen:
                read = history.records[other].get((worker, number))
                if read is None:
                    found.append(
                        f"{key} on {storage}: saw {other} {worker} {number}: gone"
                    )
                elif read.tid > vector.get(other, 0):
                    found.append(f"{key} on {storage}: saw {other} {worker} {number}")
    return found


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


def named_vector(data: Mapping[str, str]) -> dict[str, int]:
    """A vector as our JSON has it."""
    return {storage: int(text, 16) for storage, text in data.items()}


def read_tid_log(path: Path, after: int) -> list[dict[str, int]]:
    """The vectors that a TID log gained after its first bytes, as anyone reads it."""
    vectors = []
    vector: dict[str, int] = {}
    position = 0
    for line in path.read_bytes().splitlines(keepends=True):
        position += len(line)
        if not line.endswith(b"\n"):
            break
        _, kind, text = line.decode().split(maxsplit=2)
        change = ast.literal_eval(text)
        vector = change if kind == "f" else {**vector, **change}
        if position > after:
            vectors.append(vector)
    return vectors
