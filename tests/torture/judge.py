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

from ZODB.FileStorage import FileIterator

from torture import bank
from torture.bank import Key, Seen

Vector = Mapping[str, int]
#: {(storage, transaction): TID of the record that undid it there}.
Undone = Mapping[tuple[str, Key], int]
#: What our tool calls an undo, see `tidstorage.verbs.damage.undo`.
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


def is_of_two_times(path: Path) -> bool:
    """Whether a transaction is unfinished, and others follow it.

    As where a copy read one part of a file before, another after it was finished.
    """
    content = path.read_bytes()
    position = 4
    while position + 23 <= len(content):
        length = int.from_bytes(content[position + 8 : position + 16], "big")
        end = position + length + 8
        if content[position + 16 : position + 17] == b"c":
            return end < len(content)
        if length < 23 or end > len(content):
            return False
        position = end
    return False


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
