"""Packs that were not made by ``bin/cluster pack``, seen in what a backup copied."""

from collections.abc import Iterator

from tidstorage.coherence import tid
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock


def describe_packs(
    previous: Manifest | None, made: Manifest, *, started_over: bool
) -> Iterator[str]:
    """What was done to the storages since the previous set, in words.

    previous: the set before ``made``; None without one: then there is nothing to
    say.  started_over: whether full copies were made for other reasons anyway.
    """
    if previous is None or previous.point.timeline != made.point.timeline:
        return
    earlier = {storage.id: storage for storage in previous.storages}
    for storage in made.storages:
        before = earlier.get(storage.id)
        if before is None:
            continue
        if before.packed is not None and (storage.packed or 0) > before.packed:
            until = clock.local(tid.to_time(storage.packed or 0))
            yield (
                f"storage {storage.id} was packed since set {previous.id}, up to"
                f" {until}, by somebody else (zeopack?): `bin/cluster pack` backs up"
                " first, and stays below the last point"
            )
        elif storage.kind == "full" and not started_over:
            yield (
                f"storage {storage.id} does not go on from set {previous.id}: the file"
                " was packed, cut or replaced since"
            )
