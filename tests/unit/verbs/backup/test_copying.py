"""What a backup writes is a repozo repository, for stock repozo as well."""

import hashlib
import os
import subprocess
import types

import pytest
import transaction
from backup_sets import backup_directory
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.fsIndex import fsIndex
from ZODB.utils import p64

from tidstorage.operation import progress
from tidstorage.sets import repozo as repository
from tidstorage.system import child, private_files
from tidstorage.verbs.backup import copying, digests
from tidstorage.verbs.backup.copy_anew import CopyAnew
from tidstorage.verbs.backup.prepare import Preparation

NAME = "root"


class Repository:
    """One storage, and the repository that it is copied to."""

    def __init__(self, folder, compress):
        self.data_file = folder / "Data.fs"
        self.backup = types.SimpleNamespace(
            directory=folder / "backup", jobs=1, compress=compress
        )
        storage = types.SimpleNamespace(id=NAME, data_file=self.data_file)
        self.cluster = types.SimpleNamespace(
            storages=(storage,), backup=self.backup, run_directory=folder / "run"
        )
        self.folder = backup_directory(self).repository(NAME)
        private_files.make_folder(self.folder)
        self.count = 0

    def write(self, transactions=20):
        storage = FileStorage(str(self.data_file))
        database = DB(storage)
        with database.transaction() as connection:
            connection.root()["first"] = True
        connection = database.open()
        for _ in range(transactions):
            self.count += 1
            connection.root()[self.count % 7] = os.urandom(2_000) * 3
            transaction.commit()
        connection.close()
        database.close()

    def copy(self, start_over=False, previous=None):
        """previous: what stands for the manifest of the set before."""
        self.wait_for_the_next_second()
        preparation = Preparation(
            cluster=self.cluster,
            directory=backup_directory(self),
            set_id="unused",
            files_before={},
            previous=previous,
            floor=None,
            timeline=1,
            start_over=start_over,
        )
        with progress.operation(self.cluster, "backup") as operation:
            return copying.copy_all(preparation, operation)[NAME]

    def wait_for_the_next_second(self):
        newest = repository.find_newest_second(self.folder)
        repository.await_second_after(newest, "")

    def repozo(self, *arguments):
        done = subprocess.run(
            [*child.python("ZODB.scripts.repozo"), *arguments, "-r", str(self.folder)],
            env=child.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stderr


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def made(tmp_path, request):
    found = Repository(tmp_path, request.param)
    found.write()
    return found


def test_stock_repozo_verifies_restores_and_continues_it(made, tmp_path):
    first = made.copy()
    assert (first.kind, first.end) == ("full", made.data_file.stat().st_size)
    made.write()
    second = made.copy()
    assert second.kind == "incremental"
    assert [each.end for each in second.files] == [first.end, second.end]
    made.repozo("-V")
    restored = tmp_path / "restored.fs"
    made.repozo("-R", "-w", "-o", str(restored))
    assert restored.read_bytes() == made.data_file.read_bytes()
    # Its index is the one that a scan makes.
    index = fsIndex.load(f"{restored}.index")
    (tmp_path / "restored.fs.index").unlink()
    scanned = FileStorage(str(restored), read_only=True)
    assert index["pos"] == scanned.getSize()
    assert dict(index["index"].items()) == dict(scanned._index.items())
    scanned.close()
    made.write()
    made.wait_for_the_next_second()
    options = ["-z"] if made.backup.compress else []
    made.repozo("-B", "-Q", *options, "-f", str(made.data_file))
    parts = repository.read_newest_chain(made.folder)
    assert list(parts[:2]) == list(second.files)
    assert len(parts) == 3, "repozo did not go on from it"
    # And we go on from what it did.
    made.write()
    assert list(made.copy().files[:3]) == list(parts)


def test_the_digest_is_that_of_the_file(made):
    copied = made.copy()
    path = made.backup.directory / copied.written.path
    assert copied.written.size == path.stat().st_size
    assert copied.written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name.endswith("fsz" if made.backup.compress else "fs")


def test_nothing_new_is_nothing_to_copy(made):
    first = made.copy()
    files = sorted(each.name for each in made.folder.iterdir())
    again = made.copy()
    assert (again.kind, again.written) == ("unchanged", None)
    assert list(again.files) == list(first.files)
    assert sorted(each.name for each in made.folder.iterdir()) == files


def test_an_empty_storage_is_copied(made):
    made.data_file.write_bytes(b"")
    assert made.copy(start_over=True).end == 0
    made.data_file.write_bytes(b"FS30")
    copied = made.copy()
    assert copied.end == 4


def test_an_index_that_is_gone_is_made_anew(made, tmp_path):
    made.data_file.with_name("Data.fs.index").unlink()
    copied = made.copy()
    (index,) = made.folder.glob("*.index")
    found = fsIndex.load(str(index))
    storage = FileStorage(str(made.data_file), read_only=True)
    assert found["pos"] == copied.end
    assert dict(found["index"].items()) == dict(storage._index.items())
    storage.close()


def test_an_index_of_another_file_is_not_believed(made):
    """Of one in which a transaction ends at the same byte, as after a pack."""
    path = made.data_file.with_name("Data.fs.index")
    index = fsIndex.load(str(path))
    for oid in list(index["index"]):
        index["index"][oid] += 1
    index["index"].save(index["pos"], str(path))
    made.copy()
    (written,) = made.folder.glob("*.index")
    found = fsIndex.load(str(written))["index"]
    path.unlink()
    storage = FileStorage(str(made.data_file), read_only=True)
    assert dict(found.items()) == dict(storage._index.items())
    storage.close()


def test_an_index_that_has_rotten_is_not_gone_on_from(made):
    made.copy()
    (written,) = made.folder.glob("*.index")
    known = digests.describe_new_file(backup_directory(made), written)
    index = fsIndex.load(str(written))
    # Of an object that the last transaction did not change.
    index["index"][p64(99)] = 4
    index["index"].save(index["pos"], str(written))
    made.write(1)
    made.copy(
        previous=types.SimpleNamespace(
            files=lambda: [], storages=[types.SimpleNamespace(index=known)]
        )
    )
    newest = max(made.folder.glob("*.index"))
    found = fsIndex.load(str(newest))["index"]
    storage = FileStorage(str(made.data_file), read_only=True)
    assert dict(found.items()) == dict(storage._index.items())
    storage.close()


@pytest.mark.parametrize("what", ["packed", "cut", "start over", "no record", "torn"])
def test_a_full_copy_is_made(made, what):
    made.copy()
    made.write()
    second = made.copy()
    if what == "packed":
        storage = FileStorage(str(made.data_file))
        database = DB(storage)
        database.pack()
        database.close()
        # Its length tells nothing any more.
        while made.data_file.stat().st_size <= second.end:
            made.write()
    elif what == "cut":
        os.truncate(made.data_file, second.files[0].end)
        made.data_file.with_name("Data.fs.index").unlink()
    record = (made.folder / second.files[0].name).with_suffix(".dat")
    if what == "no record":
        record.unlink()
    elif what == "torn":
        record.write_text(record.read_text()[:-50])
    copied = made.copy(start_over=what == "start over")
    assert copied.kind == "full"
    assert [each.name for each in copied.files] == [
        each.name for each in repository.read_newest_chain(made.folder)
    ]


def test_a_file_that_becomes_shorter_amid_it_is_copied_anew(made, monkeypatch):
    real = copying._copy_one

    def cut_first(*arguments):
        os.truncate(made.data_file, 1_000)
        return real(*arguments)

    monkeypatch.setattr(copying, "_copy_one", cut_first)
    with pytest.raises(CopyAnew, match="became shorter"):
        made.copy()


def test_what_a_vote_has_written_is_not_copied(made):
    size = made.data_file.stat().st_size
    with made.data_file.open("ab") as opened:
        opened.write((1 << 60).to_bytes(8) + (10_000).to_bytes(8) + b"c" + bytes(500))
    assert made.copy().end == size
