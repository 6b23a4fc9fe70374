"""Which known point files still hold, after somebody has put one of them back."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tidstorage.coherence.point import Point
from tidstorage.engines.filestorage import DataFile


def find_newest_held(
    points: Iterable[Point], files: Mapping[str, Path]
) -> Point | None:
    """The point that covers most, of those that every file still holds; None: none.

    That a file goes on further proves nothing: it may lack what was between.  So the
    very transaction that a point ends with has to be there.  Only points to build on
    count: verified, and without half commits.  files: {storage id: Data.fs}.

    Raises: FileUnreadable: where a file is missing, of another kind, or broken.
    """
    candidates = [
        point
        for point in points
        if point.verified and not point.damage and files.keys() <= point.vector.keys()
    ]
    if not candidates:
        return None
    held = {
        storage: _read_tids(path, min(point.vector[storage] for point in candidates))
        for storage, path in files.items()
    }
    return max(
        (
            point
            for point in candidates
            if all(point.vector[storage] in held[storage] for storage in files)
        ),
        key=lambda point: sum(point.vector[storage] for storage in files),
        default=None,
    )


def _read_tids(path: Path, lowest: int) -> set[int]:
    """The TIDs of a file down to the lowest that is asked for; 0 is always there."""
    tids = {0}
    with DataFile(path) as opened:
        for transaction in opened.backward():
            if transaction.tid < lowest:
                break
            tids.add(transaction.tid)
    return tids
