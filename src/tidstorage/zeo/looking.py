"""Looking for one transaction's record in a storage, by asking its server.

The server reads the very file that it writes.  Its undo log gives many records in one
call, but none that a pack has gone over: where it ends above the place that matters,
records may have been packed away, and that one is not there proves nothing.
"""

from collections.abc import Mapping

from tidstorage.coherence import tid
from tidstorage.coherence.record import Record
from tidstorage.zeo import server_errors, undo_log
from tidstorage.zeo.client import ZeoClient

_FIRST_BATCH = 200
_GROWTH = 10
#: Entries of the undo log that one call may give; half a gigabyte in the worst case.
_LARGEST_BATCH = 2_000_000
_PACKED = "p"


class CannotTell(Exception):
    """Whether the storage ever got the record is unknown; the text says why."""


def look_for(
    client: ZeoClient, commit_id: bytes, bound: int, aliases: Mapping[str, str]
) -> Record | None:
    """The storage's record of a transaction; None: it has none, and all would show.

    bound: no record of the transaction can have a TID below it.
    aliases: {other name of a storage in stamps: its id}.

    Raises: CannotTell: where that is not sure; besides, what ZEO raises where the
        server cannot be asked.
    """
    size = _FIRST_BATCH
    while True:
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
            return _look_below_the_undo_log(client, commit_id, bound, aliases)
        if size >= _LARGEST_BATCH:
            raise CannotTell("too much was written since")
        size *= _GROWTH


def _read_undo_log(client: ZeoClient, size: int) -> list[dict[str, object]]:
    try:
        return client.newest(size)
    except Exception as error:
        if server_errors.is_undo_error(error):
            raise CannotTell("its server is packing it now") from error
        raise


def _look_below_the_undo_log(
    client: ZeoClient, commit_id: bytes, bound: int, aliases: Mapping[str, str]
) -> Record | None:
    """The same in what a pack has gone over, if one has.

    Raises: CannotTell: where it has, and the record is not in what it left.
    """
    with client.transactions() as transactions:
        first = next(transactions, None)
    if first is None or first.status != _PACKED:
        if bound > 1 and (first is None or tid.from_bytes(first.tid) >= bound):
            raise CannotTell("what its writer had seen there is gone")
        # The file begins here, and nobody packed it.
        return None
    with client.transactions(bound) as transactions:
        for transaction in transactions:
            if transaction.status != _PACKED:
                break
            stamp = undo_log.read_stamp(transaction.extension, aliases)
            if stamp is not None and stamp.commit_id == commit_id:
                return Record(tid.from_bytes(transaction.tid), stamp)
    raise CannotTell("it was packed since: its record may have been there")
