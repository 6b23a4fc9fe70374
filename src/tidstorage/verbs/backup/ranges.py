"""Which transactions each file of a copy holds, so that its loss can be told.

Read backward from the end of each in the live file: a file that is missing or
rotten tells nothing itself.
"""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tidstorage.engines.filestorage import DataFile, last_packed
from tidstorage.errors import FileUnreadable
from tidstorage.sets.manifest import Range
from tidstorage.verbs.backup.copying import StorageCopy

logger = logging.getLogger(__name__)

_Read = TypeVar("_Read")


def find_ranges(data_file: Path, copy: StorageCopy) -> tuple[Range, ...]:
    """The range of each of the copy's files; none where nobody can tell any more."""

    def read(source: DataFile) -> tuple[Range, ...]:
        return tuple(_read_ranges(source, copy))

    what = "which transactions are in which file"
    return _read_if_same(data_file, copy, read, what) or ()


def find_last_packed(data_file: Path, copy: StorageCopy) -> int | None:
    """TID of the last transaction of the copy that a pack left, 0 without a pack.

    None where nobody can tell any more.
    """

    def read(source: DataFile) -> int:
        return last_packed(source, copy.end)

    return _read_if_same(data_file, copy, read, "how far back the copy reaches")


def _read_if_same(
    data_file: Path, copy: StorageCopy, read: Callable[[DataFile], _Read], what: str
) -> _Read | None:
    """What is read of a Data.fs, where it is still the one that was copied.

    None where it is not, as after a pack, and where it cannot be read, which is
    logged: neither is a reason to go without the set.  what: is to be read, in words.
    """
    try:
        with DataFile(data_file) as source:
            if os.fstat(source.descriptor).st_ino == copy.inode:
                return read(source)
    except FileUnreadable as error:
        logger.warning("%s is not known: %s", what, error)
    return None


def _read_ranges(source: DataFile, copy: StorageCopy) -> Iterator[Range]:
    after = 0
    for file in copy.files:
        record = next(source.backward(file.end), None)
        last = max(after, record.tid) if record else after
        yield Range(file.start, file.end, after, last)
        after = last
