"""Transactions with their stamps: what the cut is computed from."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from tidstorage.coherence.record import Record
from tidstorage.coherence.tid import LAST
from tidstorage.engines import Description, RecordPosition
from tidstorage.engines.filestorage.abandoned_votes import read_abandoned_votes
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.extension import read_stamp
from tidstorage.engines.filestorage.format import (
    HEADER,
    PACKED,
    START,
    UNDONE,
    Transaction,
)

_NO_ALIASES: Mapping[str, str] = MappingProxyType({})


def read_records(
    path: Path,
    after: int = 0,
    until: int | None = None,
    aliases: Mapping[str, str] = _NO_ALIASES,
) -> Iterator[RecordPosition]:
    """The finished transactions with after < TID <= until, in rising order.

    aliases: {old storage id: present id}.

    Raises: FileUnreadable: where the file is missing, of another kind, or broken, or
        its TIDs do not rise.
    """
    with DataFile(path) as data_file:
        position = data_file.boundary_after(after) if after else START
        for transaction in data_file.ascending(position, after):
            if until is not None and transaction.tid > until:
                return
            yield with_stamp(transaction, aliases)


def read_backward(
    path: Path, aliases: Mapping[str, str] = _NO_ALIASES
) -> Iterator[RecordPosition]:
    """All finished transactions, the last one first, read as they are asked for.

    Raises: FileUnreadable: where the file is missing, of another kind, or broken.
    """
    with DataFile(path) as data_file:
        for transaction in data_file.backward():
            yield with_stamp(transaction, aliases)


def with_stamp(transaction: Transaction, aliases: Mapping[str, str]) -> RecordPosition:
    """The same transaction, its extension read."""
    tid, position, end, status, extension = transaction
    stamp = None
    if extension and status != UNDONE:
        stamp = read_stamp(extension, aliases)
    return RecordPosition(tid, position, end, status, stamp)


def last_tid(path: Path) -> int:
    """The TID of the last finished transaction, 0 where there is none."""
    with DataFile(path) as data_file:
        for transaction in data_file.backward():
            return transaction.tid
    return 0


def position_after(path: Path, tid: int) -> int:
    """The first byte to drop where the last TID to keep is ``tid``."""
    with DataFile(path) as data_file:
        return data_file.boundary_after(tid)


def last_packed(data_file: DataFile, end: int | None = None) -> int:
    """The TID of the last packed transaction before the boundary ``end``, or 0.

    A pack marks all that it leaves; what came later stands behind it.  None: the
    end of the file.
    """
    first = next(data_file.forward(), None)
    if first is None or first.status != PACKED:
        return 0
    packed = (
        transaction.tid
        for transaction in data_file.backward(end)
        if transaction.status == PACKED
    )
    return next(packed, 0)


def packed_above(path: Path, tid: int) -> int:
    """The TID of the last packed transaction above ``tid``, 0 where none is.

    A copy that holds one cannot be cut to ``tid``: what the pack removed was
    part of the state at that point.  A pack leaves packed ones first in the file.
    """
    last = 0
    with DataFile(path) as data_file:
        for transaction in data_file.forward(data_file.boundary_after(tid)):
            if transaction.status != PACKED:
                break
            last = transaction.tid
    return last


def packed_up_to(path: Path, after: int) -> int:
    """Up to which TID a pack may have taken away what was above ``after``; 0: nowhere.

    `tidstorage.coherence.tid.LAST` where that is up to the end of the file.
    """
    with DataFile(path) as data_file:
        start = data_file.boundary_after(after)
        before = next(data_file.backward(start), None)
        return find_packed(
            after, before.status if before else None, data_file.forward(start)
        )


class Marked(Protocol):
    """A transaction, and by its status whether a pack has gone over it."""

    @property
    def tid(self) -> int: ...

    @property
    def status(self) -> str: ...


def find_packed(after: int, before: str | None, following: Iterable[Marked]) -> int:
    """Up to which TID, inclusive, a pack may have taken away what was above ``after``.

    before: the status of the last transaction at or below ``after``; None without one.
    following: what comes next, in order; no more of it is read than needed.  0: nothing
    above ``after`` was taken.

    A pack goes from the start of a file to some time and marks all that it leaves, but
    an empty transaction it takes away as a whole: its end may be anywhere before the
    first transaction without a mark.
    """
    if before not in (None, PACKED):
        return 0
    # Where nothing was there before, only a mark tells of a pack.
    is_packed = before is not None or after > 0
    for transaction in following:
        if transaction.status != PACKED:
            return transaction.tid - 1 if is_packed else 0
        is_packed = True
    return LAST if is_packed else 0


def records_up_to(
    data_file: Path,
    after: int,
    until: int | None,
    aliases: Mapping[str, str],
    end: int | None = None,
) -> list[Record]:
    """What a storage held above ``after`` when its server's last TID was ``until``.

    A server that was killed amid a vote reports the TID of the record that its
    restart cut off as its last one, and processes saw it as that.  It stands
    here as a record without a stamp, since nothing of it can be missing; also where
    the server was started once more, and says the TID before it.

    until: None: all that there are.  end: those that end there at the latest, in bytes.
    """
    records: list[Record] = []
    last, following = after, None
    with DataFile(data_file) as opened:
        position = opened.boundary_after(after) if after else START
        for transaction in opened.ascending(position, after):
            if (until is not None and transaction.tid > until) or (
                end is not None and transaction.end > end
            ):
                following = transaction.tid
                break
            records.append(with_stamp(transaction, aliases).record)
            last, position = transaction.tid, transaction.end
    votes = [
        vote.tid
        for vote in read_abandoned_votes(data_file)
        if vote.position == position
        and vote.tid > last
        # What came after it, with a clock set back, is not covered with it.
        and (following is None or vote.tid < following)
    ]
    newest = max([last, *votes, until or 0])
    if newest > last:
        records.append(Record(newest))
    return records


def describe(path: Path, tid: int) -> Description | None:
    """What the transaction with just that TID says; None where the file has none.

    Raises: FileUnreadable: where the file is missing, of another kind, or broken.
    """
    with DataFile(path) as data_file:
        after = data_file.boundary_after(tid - 1)
        transaction = next(data_file.forward(after), None)
        if transaction is None or transaction.tid != tid:
            return None
        header = os.pread(data_file.descriptor, HEADER.size, transaction.position)
        user, description = HEADER.unpack(header)[3:5]
        text = os.pread(
            data_file.descriptor,
            user + description,
            transaction.position + HEADER.size,
        )
    stamp = read_stamp(transaction.extension, {}) if transaction.extension else None
    return Description(
        text[:user].decode(errors="replace"),
        text[user:].decode(errors="replace"),
        None if stamp is None else stamp.commit_id,
    )
