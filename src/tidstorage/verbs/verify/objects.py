"""Every object of a restored set is read, and every reference followed.

Objects are read as bytes: their pickles are taken apart without loading a class.
A reference counts where something that a root leads to holds it; what only
garbage refers to may be gone, since packs that were told to collect it did so.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from ZODB.blob import LAYOUTS, is_blob_record
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines.filestorage import references
from tidstorage.engines.filestorage.format import DATA_HEADER
from tidstorage.sets import renaming
from tidstorage.sets.blobs import BlobList, read_lists
from tidstorage.sets.manifest import Manifest
from tidstorage.verbs.restore.target import Target
from tidstorage.verbs.verify.budget import Budget, OutOfTime
from tidstorage.verbs.verify.scratch import Loss, State

#: What Zope calls the database of the storage that is mounted at "/".
_MAIN = "main"
#: Objects between two looks at the clock.
_STRETCH = 1000
#: Losses that are told one by one; of more there is only the number.
MOST_TOLD = 1000


@contextmanager
def opened(targets: Mapping[str, Target]) -> Iterator[dict[str, FileStorage]]:
    """{storage id: its staged file, opened}."""
    with ExitStack() as stack:
        found = {}
        for storage, target in targets.items():
            path = str(target.staged_data_file)
            found[storage] = FileStorage(path, read_only=True)
            stack.callback(found[storage].close)
        yield found


def count(storages: Mapping[str, FileStorage]) -> int:
    """How many objects there are."""
    return sum(len(each._index) for each in storages.values())


def read_all(
    cluster: Cluster,
    made: Manifest,
    storages: Mapping[str, FileStorage],
    state: State,
    budget: Budget,
    advance: Callable[[int], None],
    keep: Callable[[State], None],
) -> State:
    """Read every object that was not read before, and say what was found so far.

    keep: called with what is to be gone on from.  OutOfTime.
    """
    names = _names(cluster)
    for stored in renaming.rename_storages(made, cluster.aliases).storages:
        held = read_lists(cluster.backup.directory, stored.blob_lists or ())
        reader = _Reader(stored.id, storages, names, held, state)
        after = bytes.fromhex(state.read.get(stored.id, ""))
        for number, oid in enumerate(_oids(storages[stored.id], after), 1):
            if number % _STRETCH == 1 and budget.is_over():
                keep(reader.state())
                raise OutOfTime
            reader.read(oid)
            advance(1)
            if number % _STRETCH == 0:
                budget.spend()
        if reader.state() != state:
            state = reader.state()
            keep(state)
            budget.spend()
    return state


def dangling(cluster: Cluster, storages: Mapping[str, FileStorage]) -> Iterator[Loss]:
    """Every reference whose target is not there, that a root leads to."""
    for each in references.find_dangling(storages, _names(cluster)):
        (storage, holder), (database, target) = each.holder, each.target
        if each.holder == each.target:
            # The root of a storage that has no object yet.
            continue
        what = f"refers to 0x{target.hex()} in {database}, which is not there"
        yield Loss(storage=storage, oid=holder.hex(), what=what)


def _names(cluster: Cluster) -> dict[str, str]:
    """{what references call a database: id of its storage}, beside the ids."""
    names = {**cluster.aliases}
    for each in cluster.storages:
        if each.mount_point == "/":
            names[_MAIN] = each.id
    return {**names, **{each.id: each.id for each in cluster.storages}}


def _oids(storage: FileStorage, after: bytes) -> Iterator[bytes]:
    return (oid for oid in storage._index if oid > after)


class _Reader:
    """Reads the objects of one storage."""

    def __init__(
        self,
        storage: str,
        storages: Mapping[str, FileStorage],
        names: Mapping[str, str],
        held: BlobList,
        state: State,
    ) -> None:
        self._id = storage
        self._storages = storages
        self._storage = storages[storage]
        self._names = names
        self._layout = LAYOUTS[held.layout]
        self._blobs = {each.path for each in held.blobs}
        self._state = state
        self._read = state.read.get(storage, "")
        self._objects = state.objects
        self._unresolved = state.unresolved
        self._lost = [*state.lost]
        self._is_there = functools.lru_cache(65536)(self._look)

    def state(self) -> State:
        """What was found so far, in all storages."""
        return self._state.model_copy(
            update={
                "read": {**self._state.read, self._id: self._read},
                "objects": self._objects,
                "unresolved": self._unresolved,
                "lost": tuple(self._lost[:MOST_TOLD]),
            }
        )

    def read(self, oid: bytes) -> None:
        """One object, and what it refers to."""
        self._read = oid.hex()
        self._objects += 1
        try:
            data, serial = self._storage.load(oid)
        except POSKeyError:
            # Its creation was undone.
            return
        except Exception as error:
            # Of ZODB, struct or zlib: bytes that are no object raise anything.
            self._lose(oid, f"cannot be read: {error}")
            return
        try:
            targets = [*references.find_references(data, self._id)]
        except Exception as error:
            # As above, of pickle.
            self._lose(oid, f"is no sound pickle: {error!r}")
            return
        for name, target in targets:
            if not self._is_there(self._names.get(name, name), target):
                self._unresolved += 1
        if is_blob_record(data):
            path = self._layout.getBlobFilePath(oid, serial)
            if path not in self._blobs:
                self._lose(oid, f"is a blob, and the set has no {path}")

    def _lose(self, oid: bytes, what: str) -> None:
        self._lost.append(Loss(storage=self._id, oid=oid.hex(), what=what))

    def _look(self, storage_id: str, oid: bytes) -> bool:
        """Whether a storage has an object; none where its creation was undone."""
        storage = self._storages.get(storage_id)
        position = storage and storage._index.get(oid)
        if storage is None or position is None:
            return False
        header = os.pread(storage._file.fileno(), DATA_HEADER.size, position)
        if DATA_HEADER.unpack(header)[-1]:
            return True
        try:
            storage.load(oid)
        except POSKeyError:
            return False
        return True
