"""The objects that a transaction of a Data.fs wrote."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.format import (
    DATA_HEADER,
    HEADER,
    TRAILER,
    Transaction,
    Window,
)

_BACK_POINTER = 8


class DataRecord(NamedTuple):
    """One object in one transaction, and where it lies.

    position: its first byte.  previous: that of the object's record before, or 0.
    length: of its data; 0 where it has the data of another record.
    """

    oid: bytes
    position: int
    previous: int
    length: int


def read_data_records(
    data_file: DataFile, transaction: Transaction
) -> Iterator[DataRecord]:
    """All data records of a transaction, in the file's order."""
    window = Window(data_file.descriptor)
    header = HEADER.unpack(window.read(transaction.position, HEADER.size))
    position = transaction.position + HEADER.size + sum(header[3:])
    while position + DATA_HEADER.size <= transaction.end - TRAILER.size:
        oid, _, previous, _, _, length = DATA_HEADER.unpack(
            window.read(position, DATA_HEADER.size)
        )
        yield DataRecord(oid, position, previous, length)
        position += DATA_HEADER.size + (length or _BACK_POINTER)


def read_data(data_file: DataFile, record: DataRecord) -> bytes:
    """The two pickles of the object; b"" where another record has them."""
    start = record.position + DATA_HEADER.size
    return os.pread(data_file.descriptor, record.length, start)
