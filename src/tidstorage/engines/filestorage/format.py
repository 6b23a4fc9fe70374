"""How ZODB/FileStorage/format.py lays out a Data.fs, and windows into one."""

import os
import struct
import sys
from typing import NamedTuple

#: ZODB on Python 3; the same layout on Python 2, which only zodbupdate may turn
#: into the former.
MAGICS = (b"FS30", b"FS21")
#: The position of the first transaction.
START = 4
#: tid, length without the trailing copy of it, status, lengths of user,
#: description and extension.
HEADER = struct.Struct(">QQcHHH")
#: oid, tid, position of the oid's previous record, position of the transaction,
#: 0, length of the data (0: a back pointer of 8 bytes follows).
DATA_HEADER = struct.Struct(">8s8sQQHQ")
TRANSACTION_POSITION = slice(24, 32)
#: The copy of the length behind each transaction.
TRAILER = struct.Struct(">Q")

PACKED = "p"
UNDONE = "u"
VOTED = b"c"
FINISHED = b" pu"

#: Small transactions are read in stretches, large ones are hopped over.
_STRETCH = 128 * 1024
_GLANCE = 4096
_LARGE = 8192


class Transaction(NamedTuple):
    """One finished transaction and where it lies.

    tid: int.  position: its first byte.  end: the first byte after it.
    status: " ", "p" (packed) or "u" (undone: ZODB ignores what it holds).
    extension: as it is in the file, a pickle or nothing.
    """

    tid: int
    position: int
    end: int
    status: str
    extension: bytes


class Window:
    """A stretch of a file in memory that moves along with its reader."""

    def __init__(self, descriptor: int, backward: bool = False) -> None:
        self._descriptor = descriptor
        self._backward = backward
        self._ahead = _STRETCH
        self.forget()

    def forget(self) -> None:
        """Read anew next time: the file may have changed."""
        self._bytes = b""
        self._start = 0

    def expect(self, length: int) -> None:
        """Choose how much to read ahead by the length of one transaction."""
        self._ahead = _GLANCE if length > _LARGE else _STRETCH

    def read(self, position: int, count: int) -> bytes:
        """The bytes there; fewer where the file ends."""
        if position + count > sys.maxsize:
            # Garbage that was taken for a length: no file reaches there.
            return b""
        offset = position - self._start
        if offset < 0 or offset + count > len(self._bytes):
            ahead = max(count, self._ahead)
            self._start = position
            if self._backward:
                self._start = max(0, position + count - ahead)
            self._bytes = os.pread(self._descriptor, ahead, self._start)
            offset = position - self._start
        return self._bytes[offset : offset + count]
