"""What is said of lost blobs, and where their copies are."""

import dataclasses
import hashlib
import types

import pytest

from tidstorage.engines.filestorage.blob_files import blob_path
from tidstorage.sets.blob_losses import (
    describe_losses,
    describe_missing,
    find_copies,
    list_missing,
)
from tidstorage.sets.blob_pool import StoredBlob, pool_path, write_list
from tidstorage.sets.manifest import StoredFile, StoredStorage

EMPTY = StoredStorage("media", "full", (), 0, (), 0, 0)
PATHS = [blob_path("bushy", b"\0" * 8, tid) for tid in range(1, 31)]


def with_losses(**changes):
    storage = dataclasses.replace(EMPTY, **changes)
    return types.SimpleNamespace(id="a set", storages=(storage,))


def test_nothing_is_said_where_nothing_was_lost_or_nobody_looked():
    assert [*describe_losses(with_losses())] == []
    assert [*describe_losses(with_losses(missing_blobs=()))] == []


def test_what_was_lost_is_named_up_to_some():
    one, many = (PATHS[0],), tuple(PATHS)
    (words,) = describe_losses(with_losses(lost_blobs=one))
    assert "has lost 1 blob " in words and PATHS[0] in words
    lost, missing, undescribed = describe_losses(
        with_losses(lost_blobs=one, missing_blobs=many, undescribed_blobs=1200)
    )
    assert "has lost 30 blobs" in missing and missing.endswith("and 10 more")
    assert (PATHS[19] in missing, PATHS[20] in missing) == (True, False)
    assert "1,200 records" in undescribed
    assert lost != missing


def test_a_restore_lacks_only_what_is_not_cut_off():
    (storage,) = with_losses(missing_blobs=tuple(PATHS)).storages
    assert list_missing(storage, None) == PATHS
    assert list_missing(storage, 3) == PATHS[:3]
    assert "lacks 3 blobs" in describe_missing("media", PATHS[:3])


class Sets:
    """A backup directory with lists of blobs."""

    def __init__(self, folder):
        self.folder = folder
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / ".layout").write_text("bushy")

    def add(self, set_id, storage_id="media", **contents):
        """A set that lists these blobs: {name: bytes}."""
        pool = self.folder / "blobs" / storage_id
        blobs = []
        for name, content in contents.items():
            sha256 = hashlib.sha256(content).hexdigest()
            path = pool_path(pool, sha256)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            blobs.append(StoredBlob(name, len(content), sha256))
        path = write_list(pool, set_id, self.source, blobs)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        relative = str(path.relative_to(self.folder))
        stored = StoredFile(relative, path.stat().st_size, digest)
        storage = dataclasses.replace(EMPTY, id=storage_id, blob_lists=(stored,))
        return types.SimpleNamespace(id=set_id, storages=(storage,))


@pytest.fixture
def sets(tmp_path):
    return Sets(tmp_path)


def test_the_first_set_that_has_a_copy_gives_it(sets):
    older = sets.add("1", a=b"older", b=b"only here")
    newer = sets.add("2", a=b"newer", c=b"more")
    other = sets.add("3", "catalog", a=b"of another storage")
    found = find_copies(sets.folder, [other, newer, older], "media")
    assert {path: copy.file.read_bytes() for path, copy in found.items()} == {
        "a": b"newer",
        "b": b"only here",
        "c": b"more",
    }
    assert {*find_copies(sets.folder, [newer, older], "media", {"b"})} == {"b"}


def test_what_is_not_there_or_of_another_size_is_no_copy(sets):
    older, newer = sets.add("1", a=b"older", b=b"same"), sets.add("2", a=b"newer")
    (copy,) = find_copies(sets.folder, [newer], "media").values()
    copy.file.write_bytes(b"cut")
    copies = find_copies(sets.folder, [newer, older], "media")
    assert copies["a"].file.read_bytes() == b"older"
    copies["a"].file.unlink()
    assert {*find_copies(sets.folder, [newer, older], "media")} == {"b"}
    # A list that is damaged names nothing.
    (sets.folder / older.storages[0].blob_lists[0].path).write_bytes(b"damaged")
    assert find_copies(sets.folder, [newer, older], "media") == {}
