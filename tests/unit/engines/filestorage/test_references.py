"""References across databases: what resolves, and what does not."""

import transaction
from persistent import Persistent
from persistent.wref import WeakRef
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from tidstorage.engines.filestorage.references import find_dangling


class Leaf(Persistent):
    pass


def databases(folder):
    shared = {}
    for name in ("a", "b"):
        storage = FileStorage(str(folder / f"{name}.fs"))
        DB(storage, database_name=name, databases=shared)
    return shared


def found(shared):
    storages = {name: database.storage for name, database in shared.items()}
    return [
        (each.holder[0], each.target[0], each.target[1])
        for each in find_dangling(storages)
    ]


def test_whole_files_have_none(tmp_path):
    shared = databases(tmp_path)
    connection = shared["a"].open()
    leaf = connection.root()["leaf"] = Leaf()
    other = connection.get_connection("b")
    other.root()["seen"] = leaf
    connection.add(leaf)
    other.root()["weak"] = WeakRef(leaf)
    transaction.commit()
    assert found(shared) == []
    connection.close()
    for database in shared.values():
        database.close()


def test_an_object_lost_in_the_other_database_is_named(tmp_path):
    shared = databases(tmp_path)
    connection = shared["a"].open()
    transaction.commit()
    before = shared["a"].storage.getSize()
    leaf = Leaf()
    connection.add(leaf)
    connection.root()["leaf"] = leaf
    connection.get_connection("b").root()["seen"] = leaf
    transaction.commit()
    oid = leaf._p_oid
    connection.close()
    for database in shared.values():
        database.close()
    with (tmp_path / "a.fs").open("r+b") as stream:
        stream.truncate(before)
    (tmp_path / "a.fs.index").unlink()
    shared = databases(tmp_path)
    assert found(shared) == [("b", "a", oid)]
    for database in shared.values():
        database.close()


def test_a_database_that_was_not_given_counts_as_missing(tmp_path):
    shared = databases(tmp_path)
    connection = shared["a"].open()
    leaf = Leaf()
    connection.add(leaf)
    connection.get_connection("b").root()["seen"] = leaf
    transaction.commit()
    connection.close()
    lost = [each.target[0] for each in find_dangling({"b": shared["b"].storage})]
    assert lost == ["a"]
    for database in shared.values():
        database.close()
