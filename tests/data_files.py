"""A Data.fs that ZODB wrote in this process, and what ZODB itself says of it."""

import os
import random
import shutil
import struct

import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileIterator, FileStorage
from ZODB.fsIndex import fsIndex

from tidstorage.coherence import stamp, tid
from tidstorage.engines.filestorage import index


class Writer:
    """A database in one file, written without fsync's cost on small records."""

    def __init__(self, path, seed=0):
        self.path = path
        self.chance = random.Random(seed)
        self.storage = FileStorage(str(path))
        self.database = ZODB.DB(self.storage)
        self.connection = self.database.open()
        self.root = self.connection.root()

    def commit(self, note="", **extension):
        """One stamped transaction; returns its TID."""
        transaction.begin()
        key = self.chance.randrange(8)
        if key in self.root and self.chance.random() < 0.2:
            del self.root[key]
        elif key in self.root:
            size = self.chance.choice([10, 300, 20_000])
            self.root[key]["value"] = self.chance.randbytes(size)
        else:
            self.root[key] = PersistentMapping()
        current = transaction.get()
        current.note(note)
        data = stamp.encode(self.chance.randbytes(16), ["one"], {"one": 7})
        current.setExtendedInfo(stamp.KEY, data)
        for name, value in extension.items():
            current.setExtendedInfo(name, value)
        self.root["count"] = self.root.get("count", 0) + 1
        transaction.commit()
        return tid.from_bytes(self.storage.lastTransaction())

    def undo(self):
        """Undo the last transaction."""
        self.database.undo(self.database.undoLog(0, 1)[0]["id"])
        transaction.commit()

    def pack(self):
        self.database.pack()

    def close(self):
        transaction.abort()
        self.database.close()


def judged(path):
    """[(tid, position, end)] by ZODB's own iterator; for files at rest."""
    found = []
    iterator = FileIterator(str(path))
    for each in iterator:
        found.append((tid.from_bytes(each.tid), each._tpos, each._tend + 8))
    iterator.close()
    return found


def ours(records):
    return [(each.tid, each.position, each.end) for each in records]


def rebuilt_index(path, folder):
    """The index FileStorage makes of the file without one."""
    folder.mkdir()
    copy = folder / "Data.fs"
    shutil.copy(path, copy)
    FileStorage(str(copy)).close()
    return saved_index(copy)


def saved_index(path):
    loaded = fsIndex.load(str(index.path_of(path)))
    return loaded["pos"], dict(loaded["index"].items())


def append_vote(path, length=500, whole=True):
    """What a server leaves that is killed between vote and finish."""
    with path.open("ab") as stream:
        position = stream.tell()
        body = struct.pack(">QQcHHH", 1 << 62, 23 + length, b"c", 0, 0, 0)
        body += os.urandom(length) + struct.pack(">Q", 23 + length)
        stream.write(body if whole else body[: len(body) // 2])
    return position
