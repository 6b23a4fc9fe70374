"""What is in data files, read with ZODB's own iterator, and what coherent means.

Nothing of ours but the stamp's decoding is used: this is the judge.
"""

from collections.abc import Mapping
from pathlib import Path

from ZODB.FileStorage import FileIterator

from tidstorage.coherence import stamp, tid


def read(data_file: Path) -> list[tuple[int, stamp.Stamp | None]]:
    """(tid, stamp) of each record of a file that nobody writes."""
    records = []
    iterator = FileIterator(str(data_file))
    for record in iterator:
        data = record.extension.get(stamp.KEY)
        records.append((tid.from_bytes(record.tid), data and stamp.decode(data)))
    iterator.close()
    return records


def violations(
    records: Mapping[str, list[tuple[int, stamp.Stamp | None]]],
    vector: Mapping[str, int],
) -> list[str]:
    """Why the vector is not a coherent cut of the records; empty when it is."""
    kept = {
        storage: [each for each in records[storage] if each[0] <= vector[storage]]
        for storage in records
    }
    commits = {
        storage: {mark.commit_id for _, mark in kept[storage] if mark}
        for storage in kept
    }
    last_kept = {
        storage: max((each[0] for each in kept[storage]), default=0) for storage in kept
    }
    found = []
    for storage, marks in kept.items():
        for number, mark in marks:
            if mark is None:
                continue
            found += [
                f"{storage} {number:#x} is torn: not in {other}"
                for other in mark.participants
                if mark.commit_id not in commits[other]
            ]
            for other, bound in mark.vector.items():
                unseen = [
                    each[0]
                    for each in records[other]
                    if last_kept[other] < each[0] < bound
                ]
                if unseen:
                    found.append(f"{storage} {number:#x} saw {unseen} of {other}")
    return found
