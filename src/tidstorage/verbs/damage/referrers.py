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


def of_half_commit(cluster: Cluster, half: HalfCommit) -> Iterator[Dangling]:
    """References that an undo would leave without their target.

    Places are named by storage ids.  As far as files can be read here; what is
    being committed at the same time is not seen.
    """
    made, written = _written(cluster, half)
    if not made:
        return
    names = _names(cluster)
    for storage, after in _beginnings(cluster, half).items():
        found: dict[ObjectKey, ObjectKey] = {}
        try:
            for holder, data in _objects(cluster, storage, after):
                found.pop(holder, None)
                for database, oid in _outgoing(data, storage):
                    target = (names.get(database, database), oid)
                    if target in made:
                        found[holder] = target
        except FileUnreadable:
            # On another machine: whoever runs the undo there is told of it.
            continue
        for holder, target in found.items():
            # The undo takes back what it changed, whatever that became since.
            if holder not in written:
                yield Dangling(holder, target)


def _written(
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


def _beginnings(cluster: Cluster, half: HalfCommit) -> dict[str, int]:
    """{storage id: TID}: nothing that could know of it is at or below that."""
    begin: dict[str, int] = {each.id: 0 for each in cluster.storages}
    for storage, last in half.present.items():
        path = cluster.storage(storage).data_file
        for record in read_records(path, last - 1, last, cluster.aliases):
            if record.stamp is not None:
                seen = record.stamp.vector
                begin = {each: max(seen.get(each, 1) - 1, 0) for each in begin}
    return {**begin, **half.present}


def _objects(
    cluster: Cluster, storage: str, after: int
) -> Iterator[tuple[ObjectKey, bytes]]:
    with DataFile(cluster.storage(storage).data_file) as data_file:
        for transaction in data_file.forward(data_file.boundary_after(after)):
            for record in read_data_records(data_file, transaction):
                yield (storage, record.oid), read_data(data_file, record)


def _outgoing(data: bytes, storage: str) -> list[ObjectKey]:
    if not data:
        # An undo: it has what was there before the half commit, or has none.
        return []
    try:
        return [*references.find_references(data, storage)]
    except Exception:
        # Of pickle: bytes that no plain ZODB wrote raise anything, and tell nothing.
        return []


def _names(cluster: Cluster) -> Mapping[str, str]:
    """{what references call a database: id of its storage}."""
    names = {**cluster.aliases}
    for each in cluster.storages:
        names[each.id] = each.id
        if each.mount_point == "/":
            names.setdefault(_MAIN, each.id)
    return names
