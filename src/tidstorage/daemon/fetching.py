"""The records of one storage after a TID, by the cheapest way that is sure.

Over ZEO ``undoLog`` gives many records in one call, the last one first, but none
during a pack and none that a pack has marked; ``iterator`` gives each by a call of
its own, and an old start keeps the server from everything else while it looks for
it.  Where the file is on this machine, it tells all.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from tidstorage.coherence import tid
from tidstorage.coherence.record import Record
from tidstorage.engines import RecordPosition
from tidstorage.engines.filestorage import last_tid, read_records
from tidstorage.engines.filestorage.records import find_packed
from tidstorage.errors import FileUnreadable
from tidstorage.zeo import server_errors, undo_log
from tidstorage.zeo.client import ZeoClient
from tidstorage.zeo.undo_log import NoTid

#: Records asked for at once, at most.
_LARGEST_BATCH = 2000
_GROWTH = 5
#: Status of a record that a pack has gone over.
_PACKED = "p"


class HistoryChanged(Exception):
    """The last record that was seen is not in the storage any more."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was got.

    complete: there was no other when the server was asked.  exhausted: nor did an
    iteration show one, which by itself may end early.  packed: up to this TID,
    inclusive, a pack may have taken away records that nobody has got; 0: none.
    """

    records: list[Record]
    complete: bool
    exhausted: bool = False
    packed: int = 0


def fetch(
    client: ZeoClient,
    after: int,
    *,
    anchor: int | None,
    expected: int,
    limit: int,
    aliases: Mapping[str, str],
    data_file: Path | None = None,
) -> Fetched:
    """Get the records with a TID above ``after``, in order.

    anchor: the TID, not above ``after``, of a record that has to be there; None where
        none is known.
    expected: how many records may be new; a wrong number costs time only.
    limit: how many are read at most, from the first on, where one call does not give
        all.
    aliases: {other name of a storage in stamps: its id}.
    data_file: the storage's Data.fs, where it is on this machine.

    Raises: HistoryChanged: where the anchor is gone; besides, what ZEO raises where
        the server cannot be asked.
    """
    size = expected + 1
    seen = None
    reached = after if anchor is None else anchor
    while size <= _LARGEST_BATCH:
        try:
            newest_first = client.newest(size)
            newer, number = _newer(newest_first, reached)
        except NoTid:
            break
        except Exception as error:
            if server_errors.is_undo_error(error):
                break
            raise
        if number is not None:
            if anchor is not None and number != anchor:
                raise HistoryChanged(tid.to_text(anchor))
            records = [
                Record(number, undo_log.read_stamp(entry, aliases))
                for number, entry in reversed(newer)
                if number > after
            ]
            return Fetched(records, True)
        if len(newest_first) < size:
            # The undo log ends here: a pack has been up to here, and may have taken
            # the anchor away; or here the file begins.
            if anchor is not None and _begins_after(client, anchor):
                raise HistoryChanged(tid.to_text(anchor))
            break
        size *= _GROWTH
    else:
        seen = anchor
    if data_file is not None and _holds_all(data_file, client.last_tid()):
        with contextlib.suppress(FileUnreadable):
            held = read_records(data_file, max(reached - 1, 0), None, aliases)
            fetched = _after(map(_of_file, held), reached, after, seen, limit)
            if fetched.records:
                return replace(fetched, exhausted=False)
    with client.transactions(reached) as transactions:
        iterated = _of_server(transactions, aliases)
        return _after(iterated, reached, after, seen, limit)


def _holds_all(data_file: Path, last: int) -> bool:
    """Whether a file holds what the server has.

    One that is on another machine, or was replaced while the server goes on with the
    file that it has open, is not the one that it writes.  last: the server's last TID.
    """
    try:
        return last_tid(data_file) >= last
    except FileUnreadable:
        return False


def _begins_after(client: ZeoClient, anchor: int) -> bool:
    """Whether the storage is another, and no pack has made it so."""
    with client.transactions() as transactions:
        first = next(transactions, None)
    return (
        first is not None
        and first.status != _PACKED
        and tid.from_bytes(first.tid) > anchor
    )


class _Marked(NamedTuple):
    """A record, and whether a pack has gone over it."""

    status: str
    tid: int
    record: Record


def _of_file(held: RecordPosition) -> _Marked:
    return _Marked(held.status, held.tid, held.record)


def _of_server(
    transactions: Iterable[Any], aliases: Mapping[str, str]
) -> Iterator[_Marked]:
    for transaction in transactions:
        number = tid.from_bytes(transaction.tid)
        record = Record(number, undo_log.read_stamp(transaction.extension, aliases))
        yield _Marked(transaction.status, number, record)


def _after(
    marked: Iterator[_Marked], reached: int, after: int, anchor: int | None, limit: int
) -> Fetched:
    """The records after a TID, of those that should begin with the anchor.

    marked: from ``reached`` on.  A pack takes away what nobody needs any more, and
    marks what it leaves; where the next record has no such mark, an anchor that is not
    there was never there.

    Raises: HistoryChanged: where the anchor was never there.
    """
    first = next(marked, None)
    if first is None:
        return Fetched([], False, True, find_packed(reached, None, ()))
    if anchor is not None and first.tid != anchor and first.status != _PACKED:
        raise HistoryChanged(tid.to_text(anchor))
    # One more, to see whether there is one.
    before = [first] if first.tid <= reached else []
    rest = marked if before else chain([first], marked)
    new = [*islice((each for each in rest if each.tid > after), limit + 1)]
    packed = find_packed(reached, before[0].status if before else None, new)
    return Fetched(
        [each.record for each in new[:limit]], False, len(new) <= limit, packed
    )


def _newer(
    newest_first: Iterable[Mapping[str, Any]], reached: int
) -> tuple[list[tuple[int, Mapping[str, Any]]], int | None]:
    """The entries above a TID, and the first TID that is not above it.

    The latter is None where all are.

    Raises: NoTid: where an entry does not tell its TID.
    """
    newer: list[tuple[int, Mapping[str, Any]]] = []
    for entry in newest_first:
        number = undo_log.read_tid(entry)
        if number <= reached:
            return newer, number
        newer.append((number, entry))
    return newer, None
