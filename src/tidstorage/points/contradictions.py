"""Half commits that the files themselves show to be whole."""

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tidstorage.coherence.point import HalfCommit
from tidstorage.coherence.stamp import Stamp
from tidstorage.engines.filestorage import read_records
from tidstorage.errors import FileUnreadable

logger = logging.getLogger(__name__)


def find_whole(
    halves: Iterable[HalfCommit],
    paths: Mapping[str, Path],
    aliases: Mapping[str, str],
    retired: Collection[str],
) -> dict[bytes, dict[str, int]]:
    """{commit id: its records, {storage id: TID}} of what was called a half commit.

    Those of which every storage that they were meant for holds a record, that is.  Of
    the others one may be torn, or nobody can tell from the files.  Each file is read
    once, from the first place that matters.

    paths: {storage id: its Data.fs}.  aliases: {old storage id: present id}.
    """
    stamps: dict[bytes, Stamp] = {}
    records: dict[bytes, dict[str, int]] = {}
    for half in halves:
        _find_present(half, paths, aliases, stamps, records)
    wanted: dict[str, dict[bytes, int]] = {}
    for commit_id, stamp in stamps.items():
        for storage in stamp.participants - records[commit_id].keys() - set(retired):
            # All below that was finished before it was stamped.
            after = max(stamp.vector.get(storage, 0) - 1, 0)
            wanted.setdefault(storage, {})[commit_id] = after
    for storage, lacking in wanted.items():
        found = _find(lacking, paths.get(storage), aliases)
        for commit_id in lacking:
            if commit_id in found:
                records[commit_id][storage] = found[commit_id]
            else:
                stamps.pop(commit_id, None)
    return {commit_id: records[commit_id] for commit_id in stamps}


def _find_present(
    half: HalfCommit,
    paths: Mapping[str, Path],
    aliases: Mapping[str, str],
    stamps: dict[bytes, Stamp],
    records: dict[bytes, dict[str, int]],
) -> None:
    """Add a half commit's stamp, and those of its records that are where it says."""
    for name, last in half.present.items():
        storage = aliases.get(name, name)
        if storage not in paths:
            continue
        try:
            for record in read_records(paths[storage], last - 1, last, aliases):
                if record.stamp and record.stamp.commit_id == half.commit_id:
                    stamps[half.commit_id] = record.stamp
                    records.setdefault(half.commit_id, {})[storage] = record.tid
        except FileUnreadable as error:
            # Of another machine, or lost: it contradicts nothing.
            logger.debug("%s", error)


def _find(
    lacking: Mapping[bytes, int], path: Path | None, aliases: Mapping[str, str]
) -> dict[bytes, int]:
    """{commit id: TID} of those of which a file holds a record."""
    found: dict[bytes, int] = {}
    if path is None:
        return found
    try:
        for record in read_records(path, min(lacking.values()), None, aliases):
            if record.stamp and record.stamp.commit_id in lacking:
                found[record.stamp.commit_id] = record.tid
                if len(found) == len(lacking):
                    break
    except FileUnreadable as error:
        logger.debug("%s", error)
    return found
