"""Half commits that the files themselves show to be whole."""

from collections.abc import Collection, Mapping
from pathlib import Path

from tidstorage.coherence.point import HalfCommit
from tidstorage.coherence.stamp import Stamp
from tidstorage.engines.filestorage import read_records
from tidstorage.errors import FileUnreadable


def find_all_records(
    half: HalfCommit,
    paths: Mapping[str, Path],
    aliases: Mapping[str, str],
    retired: Collection[str],
) -> dict[str, int] | None:
    """{storage id: TID} of the records of what was called a half commit.

    None where one is not found: it may be half, or nobody can tell from the files.

    paths: {storage id: its Data.fs}.  aliases: {old storage id: present id}.
    """
    try:
        return _find_all(half, paths, aliases, retired)
    except FileUnreadable:
        # Of another machine, or lost: it contradicts nothing.
        return None


def _find_all(
    half: HalfCommit,
    paths: Mapping[str, Path],
    aliases: Mapping[str, str],
    retired: Collection[str],
) -> dict[str, int] | None:
    found: dict[str, int] = {}
    stamp: Stamp | None = None
    for storage, last in half.present.items():
        present = aliases.get(storage, storage)
        if present not in paths:
            continue
        for record in read_records(paths[present], last - 1, last, aliases):
            if record.stamp and record.stamp.commit_id == half.commit_id:
                found[present], stamp = record.tid, record.stamp
    if stamp is None:
        return None
    for storage in stamp.participants - found.keys() - set(retired):
        if storage not in paths:
            return None
        # All below that was finished before it was stamped.
        after = max(stamp.vector.get(storage, 0) - 1, 0)
        for record in read_records(paths[storage], after, None, aliases):
            if record.stamp and record.stamp.commit_id == half.commit_id:
                found[storage] = record.tid
                break
        else:
            return None
    return found
