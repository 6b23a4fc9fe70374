"""Which transactions each file of a copy holds, so that its loss can be told.

Read backward from the end of each in the live file: a file that is missing or
rotten tells nothing itself.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from tidstorage.engines.filestorage import DataFile, last_packed
from tidstorage.errors import FileUnreadable
from tidstorage.sets.manifest import Range
from tidstorage.verbs.backup.copying import Copied

logger = logging.getLogger(__name__)


def of_copy(data_file: Path, copied: Copied) -> tuple[Range, ...]:
    """The range of each of the copy's files; none where nobody can tell any more.

    So where a pack has just replaced the Data.fs.  That is no reason to go
    without the set.
    """
    try:
        with DataFile(data_file) as source:
            if os.fstat(source.descriptor).st_ino == copied.inode:
                return tuple(_ranges(source, copied))
    except FileUnreadable as error:
        logger.warning("which transactions are in which file is not known: %s", error)
    return ()


def packed(data_file: Path, copied: Copied) -> int | None:
    """TID of the last transaction of the copy that a pack left, 0 without a pack.

    None where nobody can tell any more.
    """
    try:
        with DataFile(data_file) as source:
            if os.fstat(source.descriptor).st_ino == copied.inode:
                return last_packed(source, copied.end)
    except FileUnreadable as error:
        logger.warning("how far back the copy reaches is not known: %s", error)
    return None


def _ranges(source: DataFile, copied: Copied) -> Iterator[Range]:
    after = 0
    for part in copied.parts:
        found = next(source.backward(part.end), None)
        last = max(after, found.tid) if found else after
        yield Range(part.start, part.end, after, last)
        after = last
