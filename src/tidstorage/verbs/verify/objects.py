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
from tidstorage.sets.blob_pool import BlobList, read_lists
from tidstorage.verbs.restore.target import Target
from tidstorage.verbs.verify.budget import OutOfTime, TimeBudget
from tidstorage.verbs.verify.trial import ObjectFault, Trial, TrialProgress

#: Objects between two looks at the clock.
_BETWEEN_LOOKS = 1000
#: Faults of objects that are told one by one; of more there is only the number.
MOST_TOLD = 1000


@contextmanager
def open_storages(targets: Mapping[str, Target]) -> Iterator[dict[str, FileStorage]]:
    """{storage id: its staged file, opened to read}, until the block ends."""
    with ExitStack() as stack:
        storages = {}
        for storage_id, target in targets.items():
            path = str(target.staged_data_file)
            storages[storage_id] = FileStorage(path, read_only=True)
            stack.callback(storages[storage_id].close)
        yield storages


def count_objects(storages: Mapping[str, FileStorage]) -> int:
    """How many objects there are in all storages together."""
    return sum(len(storage._index) for storage in storages.values())


def read_objects(
    trial: Trial,
    storages: Mapping[str, FileStorage],
    budget: TimeBudget,
    advance: Callable[[int], None],
) -> None:
    """Read every object that no earlier run has read; ``trial.progress`` is the result.

    storages: {storage id: the staged file of the trial, opened}.  advance: called
    with the number of objects that were read.

    Raises: OutOfTime: the time is over; the next run goes on from here.
    """
    names = _name_databases(trial.cluster)
    for stored in trial.manifest.storages:
        directory = trial.cluster.backup.directory
        blobs = read_lists(directory, stored.blob_lists or ())
        reader = _ObjectReader(
            stored.id, storages, names=names, blobs=blobs, progress=trial.progress
        )
        after = bytes.fromhex(trial.progress.read.get(stored.id, ""))
        for number, oid in enumerate(_oids(storages[stored.id], after), 1):
            if number % _BETWEEN_LOOKS == 1 and budget.is_over():
                trial.keep(reader.progress())
                raise OutOfTime
            reader.read(oid)
            advance(1)
            if number % _BETWEEN_LOOKS == 0:
                budget.note_progress()
        if reader.progress() != trial.progress:
            trial.keep(reader.progress())
            budget.note_progress()


def find_dangling(
    cluster: Cluster, storages: Mapping[str, FileStorage]
) -> Iterator[ObjectFault]:
    """Every reference whose target is not there, that a root leads to."""
    for reference in references.find_dangling(storages, _name_databases(cluster)):
        (storage_id, holder), (database, target) = reference.holder, reference.target
        if reference.holder == reference.target:
            # The root of a storage that has no object yet.
            continue
        what = f"refers to 0x{target.hex()} in {database}, which is not there"
        yield ObjectFault(storage=storage_id, oid=holder.hex(), what=what)


def _name_databases(cluster: Cluster) -> dict[str, str]:
    """{what references call a database: id of its storage}, old names and new ones."""
    names = {storage.database_name: storage.id for storage in cluster.storages}
    ids = {storage.id: storage.id for storage in cluster.storages}
    # Where an old name of one storage is the present id of another, that one is meant.
    return {**cluster.aliases, **names, **ids}


def _oids(storage: FileStorage, after: bytes) -> Iterator[bytes]:
    """The oids of all objects, of 8 bytes, in their order; those above ``after``."""
    return (oid for oid in storage._index if oid > after)


class _ObjectReader:
    """Reads the objects of one storage, and goes on from what was found before.

    storage_id: of the storage; storages: all, for what is referred to.  blobs: those
    that the set has of the storage.
    """

    def __init__(
        self,
        storage_id: str,
        storages: Mapping[str, FileStorage],
        *,
        names: Mapping[str, str],
        blobs: BlobList,
        progress: TrialProgress,
    ) -> None:
        self._id = storage_id
        self._storages = storages
        self._storage = storages[storage_id]
        self._names = names
        self._layout = LAYOUTS[blobs.layout]
        self._blob_paths = {blob.path for blob in blobs.blobs}
        self._before = progress
        self._last_read = progress.read.get(storage_id, "")
        self._objects = progress.objects
        self._unresolved = progress.unresolved
        self._lost = [*progress.lost]
        self._is_there = functools.lru_cache(65536)(self._has_object)

    def progress(self) -> TrialProgress:
        """How far the trial is by now, of all storages."""
        return self._before.model_copy(
            update={
                "read": {**self._before.read, self._id: self._last_read},
                "objects": self._objects,
                "unresolved": self._unresolved,
                "lost": tuple(self._lost[:MOST_TOLD]),
            }
        )

    def read(self, oid: bytes) -> None:
        """Read one object, and look whether what it refers to is there."""
        self._last_read = oid.hex()
        self._objects += 1
        try:
            data, serial = self._storage.load(oid)
        except POSKeyError:
            # Its creation was undone.
            return
        except OSError:
            # The disk fails, which tells nothing of the object.
            raise
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
            if path not in self._blob_paths:
                self._lose(oid, f"is a blob, and the set has no {path}")

    def _lose(self, oid: bytes, what: str) -> None:
        self._lost.append(ObjectFault(storage=self._id, oid=oid.hex(), what=what))

    def _has_object(self, storage_id: str, oid: bytes) -> bool:
        """Whether a storage has an object; not where its creation was undone."""
        storage = self._storages.get(storage_id)
        position = storage and storage._index.get(oid)
        if storage is None or position is None:
            return False
        # The header of its record tells, as a rule: so the data are not read again
        # for every reference to them.
        header = os.pread(storage._file.fileno(), DATA_HEADER.size, position)
        if DATA_HEADER.unpack(header)[-1]:
            return True
        # No data here: those of an earlier record, or none where it was undone.
        try:
            storage.load(oid)
        except POSKeyError:
            return False
        return True
