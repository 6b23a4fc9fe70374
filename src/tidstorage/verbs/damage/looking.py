"""Looking for one transaction's record in a storage, by asking its server.

The server reads the very file that it writes.  Its undo log gives many records in one
call, but none that a pack has gone over: where it ends above the place that matters,
records may have been packed away, and that one is not there proves nothing.

No call takes long, since a server has one thread for all.  What lies further back is
read from the file, where that is on this machine and holds all that the server has.
"""

from collections.abc import Mapping
from pathlib import Path

from tidstorage.coherence import tid
from tidstorage.coherence.record import Record
from tidstorage.engines import filestorage
from tidstorage.errors import FileUnreadable
from tidstorage.zeo import server_errors, undo_log
from tidstorage.zeo.client import ZeoClient

_FIRST_BATCH = 200
_GROWTH = 10
#: Entries of the undo log that are asked for in one call, at most: a tenth of a second.
_LARGEST_BATCH = 20_000
_PACKED = "p"


class CannotTell(Exception):
    """Whether the storage ever got the record is unknown; the text says why."""


_WAS_PACKED = "it was packed since: its record may have been there"


def look_for(
    client: ZeoClient,
    data_file: Path,
    commit_id: bytes,
    bound: int,
    aliases: Mapping[str, str],
) -> Record | None:
    """The storage's record of a transaction; None: it has none, and all would show.

    data_file: the storage's Data.fs; it may be on another machine.
    bound: no record of the transaction can have a TID below it.
    aliases: {other name of a storage in stamps: its id}.

    Raises: CannotTell: where that is not sure; besides, what ZEO raises where the
        server cannot be asked.
    """
    size = _FIRST_BATCH
    while size <= _LARGEST_BATCH:
        entries = _read_undo_log(client, size)
        for entry in entries:
            try:
                number = undo_log.read_tid(entry)
            except undo_log.NoTid:
                raise CannotTell("its undo log does not tell all TIDs") from None
            if number < bound:
                # No pack came so far, so all that follows is in the log.
                return None
            stamp = undo_log.read_stamp(entry, aliases)
            if stamp is not None and stamp.commit_id == commit_id:
                return Record(number, stamp)
        if len(entries) < size:
            # What follows it was seen; before it, a pack has been, or the file begins.
            break
        size *= _GROWTH
    try:
        if filestorage.last_tid(data_file) >= client.last_tid():
            return _look_in_file(data_file, commit_id, bound, aliases)
    except FileUnreadable:
        # Moved, or of another machine: the server tells, one by one.
        pass
    return _iterate(client, commit_id, bound, aliases)


def _read_undo_log(client: ZeoClient, size: int) -> list[dict[str, object]]:
    try:
        return client.newest(size)
    except Exception as error:
        if server_errors.is_undo_error(error):
            raise CannotTell("its server is packing it now") from error
        raise


def _look_in_file(
    data_file: Path, commit_id: bytes, bound: int, aliases: Mapping[str, str]
) -> Record | None:
    after = max(bound - 1, 0)
    for record in filestorage.read_records(data_file, after, None, aliases):
        if record.stamp is not None and record.stamp.commit_id == commit_id:
            return record.record
    # An empty storage has 0 for its last TID, whoever looks at it.
    if filestorage.packed_up_to(data_file, after if bound > 1 else 0) >= bound:
        raise CannotTell(_WAS_PACKED)
    return None


def _iterate(
    client: ZeoClient, commit_id: bytes, bound: int, aliases: Mapping[str, str]
) -> Record | None:
    with client.transactions() as transactions:
        first = next(transactions, None)
    # What its writer had seen last, unmarked: no pack has come to what follows.
    is_whole = bound <= 1 and (first is None or first.status != _PACKED)
    with client.transactions(max(bound - 1, 0)) as transactions:
        for transaction in transactions:
            number = tid.from_bytes(transaction.tid)
            if number < bound:
                is_whole = transaction.status != _PACKED
                continue
            stamp = undo_log.read_stamp(transaction.extension, aliases)
            if stamp is not None and stamp.commit_id == commit_id:
                return Record(number, stamp)
    if is_whole or (
        first is not None
        and first.status != _PACKED
        and tid.from_bytes(first.tid) < bound
    ):
        return None
    raise CannotTell(_WAS_PACKED)
