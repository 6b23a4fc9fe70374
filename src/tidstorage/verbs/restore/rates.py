"""How fast restores went here, so that the next one's length can be estimated."""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import FileUnreadable
from tidstorage.sets.manifest import Manifest
from tidstorage.system import json_file
from tidstorage.system.json_file import Shape

logger = logging.getLogger(__name__)

FILE_NAME = "restore-rates.json"
#: Putting files together from a set; comparing present files with it.
Work = Literal["copy", "compare"]


class Rates(Shape):
    """Bytes a second of the last restore that did the one, or the other."""

    copy_rate: float | None = None
    compare_rate: float | None = None


def _path(cluster: Cluster) -> Path:
    return cluster.daemon.journal.parent / FILE_NAME


def _read(cluster: Cluster) -> Rates:
    try:
        return json_file.read(_path(cluster), Rates, "rates of restores", "")
    except FileUnreadable:
        # None yet; or broken, and the next restore measures anew.
        return Rates()


@contextlib.contextmanager
def measured(cluster: Cluster, work: Work, size: int) -> Iterator[None]:
    """Note how fast the block does its work on so many bytes."""
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    if not size or not seconds:
        return
    rates = _read(cluster).model_copy(update={f"{work}_rate": size / seconds})
    try:
        json_file.write(_path(cluster), rates)
    except OSError as error:
        # No reason to end a restore.
        logger.warning("how fast this restore was is not noted: %s", error)


def estimate(
    cluster: Cluster, made: Iterable[Manifest], copied: int, compared: int
) -> float | None:
    """Seconds for so many bytes; None where nothing was ever measured here.

    made: the sets there are, newest first: where no restore was, the last full copies
    of a backup have to do.
    """
    rates = _read(cluster)
    copy_rate = rates.copy_rate or _of_backups(made)
    compare_rate = rates.compare_rate or copy_rate
    if copy_rate is None or compare_rate is None:
        return None
    return copied / copy_rate + compared / compare_rate


def _of_backups(made: Iterable[Manifest]) -> float | None:
    for manifest in made:
        size = sum(stored.size for stored in manifest.storages if stored.kind == "full")
        if size and manifest.seconds.get("copy"):
            return size / manifest.seconds["copy"]
    return None
