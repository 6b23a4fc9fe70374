"""The .index of a Data.fs, wound back instead of rebuilt by a scan.

FileStorage trusts an index that reaches beyond what it should read: with one it
ignores its own ``stop``.  So none may ever reach beyond the end of its file.
"""

import os
from collections.abc import Callable
from pathlib import Path

from ZODB.fsIndex import fsIndex

from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.data_records import read_data_records
from tidstorage.engines.filestorage.format import START, UNDONE
from tidstorage.errors import FileUnreadable
from tidstorage.system import durable

#: FileStorage takes no index that ends before this byte.
_SHORTEST = 100
#: Transactions between two calls of ``check``.
_CHECKED = 10_000


def path_of(data_file: Path) -> Path:
    """Where FileStorage keeps the index of a Data.fs."""
    return data_file.with_name(data_file.name + ".index")


def wind_back(path: Path, end: int) -> None:
    """Make the index of a Data.fs end at the boundary ``end``, or remove it.

    Before the file itself is cut: what is dropped tells where each object was
    before.  An index that ends earlier is left alone; FileStorage reads on from
    there.

    Raises: OSError: where it cannot be written.
    """
    index_path = path_of(path)
    if not index_path.exists():
        return
    with DataFile(path) as data_file:
        earlier = _load_wound_back(data_file, end)
    if earlier is None:
        index_path.unlink(missing_ok=True)
        durable.sync_folder(path.parent)
    else:
        save(path, *earlier)


def _load_wound_back(data_file: DataFile, end: int) -> tuple[fsIndex, int] | None:
    """The index as it was when the file ended at ``end``, and where it ends.

    None where there is none, or none that fits the file: FileStorage will build
    one.
    """
    loaded = _load_fitting(data_file, path_of(data_file.path))
    if loaded is None:
        return None
    index, position = loaded
    if position > end:
        try:
            if not _forget_between(data_file, index, end, position):
                return None
        except FileUnreadable:
            return None
        position = end
    if position < _SHORTEST or not index:
        return None
    return index, position


def complete(
    data_file: DataFile, end: int, former: Path | None, check: Callable[[], None]
) -> fsIndex:
    """The index of a Data.fs up to the boundary ``end``.

    former: an index of an earlier boundary to go on from, if there is one.  Without,
    and where that does not fit, it begins with the file's own, wound back, or with a
    scan of the whole.  check: called now and then; what it raises ends this.

    Raises: FileUnreadable: where the file is broken.
    """
    earlier = former and _load_fitting(data_file, former)
    if not earlier or earlier[1] > end:
        earlier = _load_wound_back(data_file, end)
    index, position = earlier or (fsIndex(), START)
    for number, transaction in enumerate(data_file.forward(position)):
        if transaction.position >= end:
            break
        if number % _CHECKED == 0:
            check()
        if transaction.status != UNDONE:
            for oid, record, *_ in read_data_records(data_file, transaction):
                index[oid] = record
    return index


def _load_fitting(data_file: DataFile, path: Path) -> tuple[fsIndex, int] | None:
    """An index and its position; None where it is not of this file."""
    loaded = _load(path)
    if loaded is None:
        return None
    index, position = loaded
    if not START <= position <= data_file.size() or not data_file.is_boundary(position):
        return None
    try:
        last = next(data_file.backward(position), None)
    except FileUnreadable:
        return None
    if last is not None and last.status != UNDONE:
        # After a pack another transaction may end at the same byte.
        held = {oid: record for oid, record, *_ in read_data_records(data_file, last)}
        if any(index.get(oid) != record for oid, record in held.items()):
            return None
    return index, position


def _load(path: Path) -> tuple[fsIndex, int] | None:
    try:
        loaded = fsIndex.load(str(path))
        index, position = loaded["index"], loaded["pos"]
    except Exception:
        # No index, one of an older ZODB, or bytes that are none and make the
        # unpickler raise anything: FileStorage ignores such a file as well.
        return None
    if isinstance(index, fsIndex) and isinstance(position, int):
        return index, position
    return None


def _forget_between(data_file: DataFile, index: fsIndex, start: int, end: int) -> bool:
    """Undo what the transactions between two boundaries did to an index.

    False where the index is not what they would have left.
    """
    last: dict[bytes, int] = {}
    before: dict[bytes, int] = {}
    position = start
    for transaction in data_file.forward(start):
        if transaction.position >= end:
            break
        position = transaction.end
        if transaction.status == UNDONE:
            continue
        for record in read_data_records(data_file, transaction):
            before.setdefault(record.oid, record.previous)
            last[record.oid] = record.position
    if position != end or any(index.get(oid) != last[oid] for oid in last):
        return False
    for oid, previous in before.items():
        if previous >= start:
            # What came first of what is dropped has to follow what is kept.
            return False
        if previous:
            index[oid] = previous
        else:
            del index[oid]
    return True


def save(data_file: Path, index: fsIndex, end: int) -> None:
    """Put an index beside a Data.fs, whole and durably.

    Raises: OSError: where it cannot be written.
    """
    path = path_of(data_file)
    # The name FileStorage uses for the same, so that nothing unknown is left.
    beside = path.with_name(path.name + ".index_tmp")
    try:
        index.save(end, str(beside))
        descriptor = os.open(beside, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    durable.sync_folder(path.parent)
