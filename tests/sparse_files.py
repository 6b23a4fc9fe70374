"""A valid Data.fs whose bulk is holes: objects whose state is zeros without end."""

import os
import pickle
import struct
from pathlib import Path

import transaction
from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.FileStorage import FileStorage as Storage

from tidstorage.engines.filestorage.format import DATA_HEADER, HEADER, TRAILER

KEY = "zeros"
#: pickle's BINBYTES: the operation, the length, the bytes.
_BYTES = struct.Struct("<cI")
_MARK = b"0123456789abcdef" * 20


#: A ZEO server that starts reads all data of so many transactions at the end.
READ_BY_ZEO = 100


def write(path: Path, count: int, size: int) -> None:
    """A Data.fs with ``count`` objects of ``size`` zeros each, and their root.

    Each is a transaction of its own, as FileStorage would have written it, but for
    the zeros, which are a hole.  Small ones follow them.
    """
    database = DB(FileStorage(str(path)))
    with database.transaction() as connection:
        root = connection.root()
        for number in range(count):
            root[number] = PersistentMapping()
    with database.transaction() as connection:
        oids = [connection.root()[number]._p_oid for number in range(count)]
    last = int.from_bytes(database.storage.lastTransaction())
    previous = {oid: database.storage._index[oid] for oid in oids}
    database.close()
    before, after = _state(size)
    with path.open("r+b") as opened:
        end = opened.seek(0, os.SEEK_END)
        for number, oid in enumerate(oids):
            tid = (last + (number + 1) * 1_000_000).to_bytes(8)
            length = len(before) + size + len(after)
            total = HEADER.size + DATA_HEADER.size + length
            opened.seek(end)
            opened.write(
                HEADER.pack(int.from_bytes(tid), total, b" ", 0, 0, 0)
                + DATA_HEADER.pack(oid, tid, previous[oid], end, 0, length)
                + before
            )
            opened.seek(size, os.SEEK_CUR)
            opened.write(after + TRAILER.pack(total))
            end += total + TRAILER.size
    database = DB(FileStorage(str(path)))
    for number in range(READ_BY_ZEO):
        with database.transaction() as connection:
            connection.root()["small"] = number
    database.close()


def _state(size: int) -> tuple[bytes, bytes]:
    """What stands before and behind the zeros of a PersistentMapping's pickles."""
    kind = pickle.dumps((PersistentMapping, None), 3)
    state = pickle.dumps({"data": {KEY: _MARK}}, 3)
    marked = _BYTES.pack(b"B", len(_MARK)) + _MARK
    before, after = (kind + state).split(marked)
    return before + _BYTES.pack(b"B", size), after


def zeros_in(path: Path) -> int:
    """How many zeros all objects hold, as ZODB loads them one after another."""
    storage: Storage = FileStorage(str(path), read_only=True)
    database = DB(storage)
    found = 0
    connection = database.open()
    for name, each in connection.root().items():
        if name == "small":
            continue
        content = each[KEY]
        assert content.count(0) == len(content)
        found += len(content)
        each._p_deactivate()
    connection.close()
    transaction.abort()
    database.close()
    return found


def taken(path: Path) -> int:
    """Bytes that a file, or all in a folder, takes of its disk."""
    return sum(each.lstat().st_blocks * 512 for each in (path, *path.rglob("*")))
