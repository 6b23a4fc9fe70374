"""Transaction records, as the pure core takes them."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tidstorage.coherence.stamp import Stamp


@dataclass(frozen=True, slots=True)
class Record:
    """What one storage holds of one transaction.

    tid: int, of that storage.  stamp: None where the writer had no hook.
    """

    tid: int
    stamp: Stamp | None = None


def accept_half_commits(
    records: Mapping[str, Sequence[Record]], accepted: Collection[bytes]
) -> dict[str, list[Record]]:
    """The records, as if the accepted commits had been meant for no other storages
    than those that hold them.

    records: {storage id: its records}.  accepted: commit ids.
    """
    holders: dict[bytes, set[str]] = {each: set() for each in accepted}
    for storage, held in records.items():
        for record in held:
            if record.stamp is not None and record.stamp.commit_id in holders:
                holders[record.stamp.commit_id].add(storage)

    def whole(record: Record) -> Record:
        stamp = record.stamp
        if stamp is None or stamp.commit_id not in holders:
            return record
        present = frozenset(holders[stamp.commit_id])
        return Record(record.tid, dataclasses.replace(stamp, participants=present))

    return {storage: [*map(whole, held)] for storage, held in records.items()}


def commit_ids(records: Mapping[str, Sequence[Record]]) -> frozenset[bytes]:
    """Of all stamped records."""
    return frozenset(
        record.stamp.commit_id
        for held in records.values()
        for record in held
        if record.stamp is not None
    )
