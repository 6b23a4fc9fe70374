"""What refers to the objects that a half commit made, and was written later.

An undo takes those objects away.  ZODB's refuses where one was changed since; that
something refers to one, in whatever database, only the data tell.
"""

from collections.abc import Iterator, Mapping

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import HalfCommit
from tidstorage.engines.filestorage import read_records, references
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.data_records import read_data, read_data_records
from tidstorage.engines.filestorage.references import Dangling, ObjectKey
from tidstorage.errors import FileUnreadable

#: What Zope calls the database of the storage that is mounted at "/".
_MAIN = "main"


def find_referrers(cluster: Cluster, half: HalfCommit) -> Iterator[Dangling]:
    """References that an undo would leave without their target.

    Places are named by storage ids.  As far as files can be read here; what is
    being committed at the same time is not seen.
    """
    made, written = _find_written(cluster, half)
    if not made:
        return
    names = _name_databases(cluster)
    for storage, after in _find_beginnings(cluster, half).items():
        references_to: dict[ObjectKey, ObjectKey] = {}
        try:
            for holder, data in _read_objects(cluster, storage, after):
                references_to.pop(holder, None)
                for database, oid in _find_outgoing(data, storage):
                    target = (names.get(database, database), oid)
                    if target in made:
                        references_to[holder] = target
        except FileUnreadable:
            # On another machine: whoever runs the undo there is told of it.
            continue
        for holder, target in references_to.items():
            # The undo takes back what it changed, whatever that became since.
            if holder not in written:
                yield Dangling(holder, target)


def _find_written(
    cluster: Cluster, half: HalfCommit
) -> tuple[set[ObjectKey], set[ObjectKey]]:
    """The objects that it made, and all that it wrote."""
    made: set[ObjectKey] = set()
    written: set[ObjectKey] = set()
    for storage, last in half.present.items():
        with DataFile(cluster.storage(storage).data_file) as data_file:
            after = data_file.boundary_after(last - 1)
            transaction = next(data_file.forward(after), None)
            if transaction is None or transaction.tid != last:
                continue
            for record in read_data_records(data_file, transaction):
                written.add((storage, record.oid))
                if not record.previous:
                    made.add((storage, record.oid))
    return made, written


def _find_beginnings(cluster: Cluster, half: HalfCommit) -> dict[str, int]:
    """{storage id: TID}: nothing that could know of it is at or below that."""
    begin: dict[str, int] = {storage.id: 0 for storage in cluster.storages}
    for storage, last in half.present.items():
        path = cluster.storage(storage).data_file
        for record in read_records(path, last - 1, last, cluster.aliases):
            if record.stamp is not None:
                seen = record.stamp.vector
                begin = {other: max(seen.get(other, 1) - 1, 0) for other in begin}
    return {**begin, **half.present}


def _read_objects(
    cluster: Cluster, storage: str, after: int
) -> Iterator[tuple[ObjectKey, bytes]]:
    with DataFile(cluster.storage(storage).data_file) as data_file:
        for transaction in data_file.forward(data_file.boundary_after(after)):
            for record in read_data_records(data_file, transaction):
                yield (storage, record.oid), read_data(data_file, record)


def _find_outgoing(data: bytes, storage: str) -> list[ObjectKey]:
    if not data:
        # An undo: it has what was there before the half commit, or has none.
        return []
    try:
        return [*references.find_references(data, storage)]
    except Exception:
        # Of pickle: bytes that no plain ZODB wrote raise anything, and tell nothing.
        return []


def _name_databases(cluster: Cluster) -> Mapping[str, str]:
    """{what references call a database: id of its storage}."""
    names = {**cluster.aliases}
    for storage in cluster.storages:
        names[storage.id] = storage.id
        if storage.mount_point == "/":
            names.setdefault(_MAIN, storage.id)
    return names
