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
    """The records, with accepted half commits made whole: what they lack is not meant.

    records: {storage id: its records}.  accepted: commit ids of half commits.

    The stamps of these name as participants the storages that hold a record of them.
    """
    present_in: dict[bytes, set[str]] = {commit_id: set() for commit_id in accepted}
    for storage, held in records.items():
        for record in held:
            if record.stamp is not None and record.stamp.commit_id in present_in:
                present_in[record.stamp.commit_id].add(storage)

    def make_whole(record: Record) -> Record:
        stamp = record.stamp
        if stamp is None or stamp.commit_id not in present_in:
            return record
        present = frozenset(present_in[stamp.commit_id])
        return Record(record.tid, dataclasses.replace(stamp, participants=present))

    return {storage: [*map(make_whole, held)] for storage, held in records.items()}


def commit_ids(records: Mapping[str, Sequence[Record]]) -> frozenset[bytes]:
    """Of all stamped records."""
    return frozenset(
        record.stamp.commit_id
        for held in records.values()
        for record in held
        if record.stamp is not None
    )
