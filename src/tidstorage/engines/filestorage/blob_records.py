"""The records of a Data.fs whose objects are blobs: each needs a file of its own.

ZODB does not mark them; their data begin with the name of the class.  To take apart
every record of a file would cost more than to copy it, hence the bytes are searched for
that name while they are copied, and only where it is found one looks at the record.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ZODB.blob import is_blob_record
from ZODB.fsIndex import fsIndex

from tidstorage.engines.filestorage import index
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.format import (
    DATA_HEADER,
    HEADER,
    START,
    UNDONE,
)

_NAME = b"ZODB.blob"
#: Bytes of the data before the name: by pickle protocol 1, and by 2 and 3, which are
#: all that ZODB writes.
_BEFORE = (1, 3)
#: The data of a blob are two tiny pickles: a class, and no state.
_MOST_DATA = 1000
#: How the data begin that Python 3 and Python 2 write: what needs no second look.
_KNOWN = (b"\x80\x03cZODB.blob\nBlob\n", b"cZODB.blob\nBlob\n")
_HEADER_LENGTH = DATA_HEADER.size


class BlobRecordFinder:
    """Finds the records of blobs in a stretch of a Data.fs that goes by in blocks.

    start: the position of the first block's first byte.
    """

    def __init__(self, start: int) -> None:
        self._positions: list[int] = []
        self._end = start
        self._tail = b""

    def look_at(self, block: bytes) -> None:
        """Search the next block."""
        # The name may begin in one block and end in the next.
        seam = self._tail + block[: len(_NAME) - 1]
        self._search(seam, self._end - len(self._tail))
        self._search(block, self._end)
        end = block[1 - len(_NAME) :]
        self._tail = (self._tail + end)[1 - len(_NAME) :]
        self._end += len(block)

    def _search(self, data: bytes, start: int) -> None:
        found = data.find(_NAME)
        while found >= 0:
            self._positions.append(start + found)
            found = data.find(_NAME, found + 1)

    def find(self, data_file: DataFile) -> Iterator[tuple[bytes, int]]:
        """(oid, TID) of every record of a blob that was seen.

        Not of one that has the data of another record, as an undo writes it.
        """
        descriptor = data_file.descriptor
        transaction, known = -1, b""
        for position in self._positions:
            for before in _BEFORE:
                start = position - before - _HEADER_LENGTH
                if start < START:
                    continue
                header = os.pread(descriptor, _HEADER_LENGTH, start)
                if len(header) < _HEADER_LENGTH:
                    continue
                oid, tid, _, owner, version, length = DATA_HEADER.unpack(header)
                if version or not before < length <= _MOST_DATA or owner >= start:
                    continue
                if owner != transaction:
                    transaction, known = owner, os.pread(descriptor, HEADER.size, owner)
                # Bytes that were stored as data cannot have the position right.
                if known[:8] != tid or known[16:17] == UNDONE.encode():
                    continue
                data = os.pread(descriptor, length, start + _HEADER_LENGTH)
                if data.startswith(_KNOWN) or is_blob_record(data):
                    yield oid, int.from_bytes(tid, "big")
                break


def find_recorded(
    data_file: DataFile,
    end: int,
    former_index: Path | None,
    blobs: Mapping[str, tuple[bytes, int]],
) -> set[str]:
    """Those of the blobs whose record is in the file: they are needed.

    end: the first byte that does not count, where a transaction ends.  former_index:
    of an earlier end, to go on from.  blobs: {any name: (oid, TID)}.

    Raises: FileUnreadable: where the file is broken.
    """
    known = index.complete(data_file, end, former_index, lambda: None)
    return {
        name
        for name, (oid, tid) in blobs.items()
        if _has_record(data_file, known, oid, tid)
    }


def _has_record(data_file: DataFile, known: fsIndex, oid: bytes, tid: int) -> bool:
    """Whether the transaction of that TID left a record of the object in the file.

    Each record of an object names the one before; a pack leaves none that it took.
    """
    position = known.get(oid) or 0
    while position:
        header = os.pread(data_file.descriptor, _HEADER_LENGTH, position)
        if len(header) < _HEADER_LENGTH:
            return False
        found, serial, previous, _, _, _ = DATA_HEADER.unpack(header)
        number = int.from_bytes(serial, "big")
        if found != oid or number < tid or not 0 <= previous < position:
            return False
        if number == tid:
            return True
        position = previous
    return False
