"""What a cut drops, as an operator counts it: in transactions and in time; no I/O."""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tidstorage.coherence import tid
from tidstorage.coherence.stamp import Stamp
from tidstorage.coherence.tid import Vector


class StampedRecord(Protocol):
    """A record, or where one lies: it has a TID, and a stamp or None."""

    @property
    def tid(self) -> int: ...

    @property
    def stamp(self) -> Stamp | None: ...


@dataclass(frozen=True, slots=True)
class Loss:
    """What a cut drops of a set: so many transactions, the first at ``since``.

    since: aware, in UTC.
    """

    transactions: int
    since: datetime.datetime

    def to_json(self) -> dict[str, Any]:
        return {
            "transactions": self.transactions,
            "since": self.since.isoformat(),
        }


def count_loss(
    records: Mapping[str, Iterable[StampedRecord]],
    cut: Vector,
    until: Vector | None = None,
) -> Loss | None:
    """The transactions of the whole cluster that a cut drops; None where it drops none.

    records: {storage id: its records}.  cut: {storage id: last TID kept, inclusive}.
    until: {storage id: last TID that counts, inclusive}, for every storage; None:
    all that was given counts.

    A transaction with records in several storages counts once, by its commit id; one
    without a stamp counts once for each storage, since nothing tells what else it was.
    """
    dropped: dict[bytes | tuple[str, int], int] = {}
    for storage, held in records.items():
        for record in held:
            if record.tid <= cut[storage]:
                continue
            if until is not None and record.tid > until[storage]:
                continue
            unstamped = (storage, record.tid)
            key = record.stamp.commit_id if record.stamp else unstamped
            dropped[key] = min(record.tid, dropped.get(key, record.tid))
    if not dropped:
        return None
    # TIDs of different storages are compared as times only, to tell roughly when.
    return Loss(len(dropped), min(map(tid.to_time, dropped.values())))
