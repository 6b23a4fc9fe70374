"""Is there room for the copies of a backup?  Asked before the first is begun."""

import os
import zlib
from pathlib import Path

from tidstorage.engines.filestorage import DataFile
from tidstorage.system import disks

#: Blocks that are compressed for a trial, spread evenly, and the bytes of each.
_SAMPLES = 32
_BLOCK = 1 << 14
#: What is sure to be needed of what the samples say: never refuse what would fit.
_CERTAIN = 0.8
_STAT_BLOCK = 512


def estimate_least(data_file: DataFile, start: int, end: int, compress: bool) -> int:
    """Bytes that a copy of that stretch takes at the very least."""
    allocated = os.fstat(data_file.descriptor).st_blocks * _STAT_BLOCK
    plain = min(end - start, allocated)
    if not compress or not plain:
        return plain
    step = max((end - start) // _SAMPLES, 1)
    read = packed = 0
    for position in range(start, end, step):
        block = os.pread(data_file.descriptor, min(_BLOCK, end - position), position)
        read += len(block)
        packed += len(zlib.compress(block, 1))
    return int(plain * min(1.0, packed / max(read, 1)) * _CERTAIN)


def refuse_lack(directory: Path, needed: int) -> None:
    """Refuse to begin copies that do not fit into the backup directory.

    needed: bytes that they take at the least.

    Raises: NoSpace: where it has not so many free.
    """
    disks.refuse_lack(
        {directory: needed},
        "the backup",
        "Make room (bin/cluster prune removes old sets); earlier sets are as good as"
        " before.",
    )
