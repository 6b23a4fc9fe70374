"""Records of blobs are found in bytes that go by, and only those."""

import pickle

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from tidstorage.engines.filestorage import DataFile
from tidstorage.engines.filestorage.blob_files import (
    blob_files,
    blob_path,
    key_of_path,
)
from tidstorage.engines.filestorage.blob_records import (
    BlobRecordFinder,
    find_recorded,
)


class Site:
    """One FileStorage with blobs, in which a test does what it likes."""

    def __init__(self, folder):
        self.path, self.blobs = folder / "Data.fs", folder / "blobs"
        storage = FileStorage(str(self.path), blob_dir=str(self.blobs))
        self.database = ZODB.DB(storage)
        self.root = self.database.open().root()

    def commit(self, **values):
        self.root.update(values)
        transaction.commit()

    def undo(self):
        self.database.undo(self.database.undoLog(0, 1)[0]["id"])
        transaction.commit()

    def files(self):
        """The blobs there are: {path below the blob directory}."""
        found = blob_files(self.blobs)
        return {str(path.relative_to(self.blobs)) for path, _ in found}

    def found(self, step=1 << 20):
        """The paths of the blobs whose records are found in blocks of that length."""
        content = self.path.read_bytes()
        finder = BlobRecordFinder(0)
        for start in range(0, len(content), step):
            finder.look_at(content[start : start + step])
        with DataFile(self.path) as data_file:
            return [blob_path("bushy", *key) for key in finder.find(data_file)]

    def recorded(self, paths):
        """Those of the paths of which the file has the record."""
        keys = {path: key_of_path("bushy", path) for path in paths}
        with DataFile(self.path) as data_file:
            return find_recorded(data_file, data_file.last_boundary(), None, keys)


@pytest.fixture
def site(tmp_path):
    found = Site(tmp_path)
    yield found
    transaction.abort()
    found.database.close()


@pytest.mark.parametrize("step", [1, 5, 8, 9, 100, 1 << 20])
def test_every_record_is_found_whatever_the_blocks(site, step):
    for number in range(5):
        site.commit(**{f"blob {number}": Blob(b"a state")})
    with site.root["blob 1"].open("w") as stream:
        stream.write(b"another state")
    site.commit()
    found = site.found(step)
    assert len(found) == 6
    assert {*found} == site.files()


def test_what_only_talks_of_blobs_is_none(site):
    site.commit(text="ZODB.blob" * 3, more=pickle.dumps(Blob))
    site.commit(holder=PersistentMapping(text=b"cZODB.blob\nBlob\nq\x01."))
    assert site.found() == []


def test_the_bytes_of_another_storage_stored_as_data_are_none(site, tmp_path):
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other")
    other.commit(blob=Blob(b"of the other"))
    other.database.close()
    site.commit(file=other.path.read_bytes())
    assert site.found() == []
    site.commit(blob=Blob(b"of this one"))
    assert {*site.found()} == site.files()


def test_records_of_every_protocol_are_found(site, monkeypatch):
    for protocol in (1, 2, 3):
        monkeypatch.setattr("ZODB._compat._protocol", protocol)
        monkeypatch.setattr("ZODB.serialize._protocol", protocol)
        site.commit(**{f"protocol {protocol}": Blob(b"a state")})
    assert {*site.found()} == site.files()


def test_a_record_is_there_until_a_pack_takes_it(site):
    blob = Blob(b"a state")
    site.commit(blob=blob)
    first = site.files()
    with blob.open("w") as stream:
        stream.write(b"another state")
    site.commit()
    both = site.files()
    site.undo()
    undone = site.files()
    assert len(first) + 2 == len(both) + 1 == len(undone) == 3
    assert site.recorded(undone) == undone
    site.commit(text="more")
    site.database.pack()
    assert len(site.files()) == 1
    assert site.recorded(undone) == site.files()


def test_what_never_was_has_no_record(site):
    site.commit(blob=Blob(b"a state"))
    (path,) = site.files()
    oid, tid = key_of_path("bushy", path)
    others = [
        blob_path("bushy", oid, tid - 1),
        blob_path("bushy", oid, tid + 1),
        blob_path("bushy", b"\x01" * 8, tid),
    ]
    assert site.recorded(others) == set()
