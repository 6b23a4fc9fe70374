"""What is found in a blob directory: what ZODB would find, and nothing else."""

import errno
import os

import pytest
from ZODB.blob import LAYOUTS, FilesystemHelper

from tidstorage.engines.filestorage import blob_files
from tidstorage.errors import FileUnreadable

OID, TID = (0x1234).to_bytes(8, "big"), 0x03F0000000000001


def make(directory, layout="bushy", oid=OID, tid=TID):
    """A blob as ZODB names it, in a directory that ZODB has made."""
    helper = FilesystemHelper(str(directory), layout)
    helper.create()
    path = directory / helper.getBlobFilename(oid, tid.to_bytes(8, "big"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a blob")
    return path


def found(directory):
    return sorted(blob_files.blob_files(directory))


@pytest.mark.parametrize("layout", ["bushy", "lawn"])
def test_a_blob_is_found_in_either_layout(tmp_path, layout):
    path = make(tmp_path, layout)
    assert blob_files.read_layout(tmp_path) == layout
    assert found(tmp_path) == [(path, TID)]
    relative = str(path.relative_to(tmp_path))
    assert blob_files.blob_path(layout, OID, TID) == relative
    assert blob_files.key_of_path(layout, relative) == (OID, TID)
    assert blob_files.is_blob_there(tmp_path, relative)
    path.unlink()
    assert not blob_files.is_blob_there(tmp_path, relative)
    path.parent.rmdir()
    assert not blob_files.is_blob_there(tmp_path, relative)


def test_every_oid_has_a_folder_that_is_looked_into(tmp_path):
    oids = [
        bytes(8),
        b"\xff" * 8,
        *((1 << bit).to_bytes(8, "big") for bit in range(63)),
    ]
    for layout in ("bushy", "lawn"):
        folder = tmp_path / layout
        made = [make(folder, layout, oid) for oid in oids]
        assert found(folder) == sorted((path, TID) for path in made)


def test_a_path_of_the_other_layout_is_none_of_a_blob(tmp_path):
    bushy, lawn = (blob_files.blob_path(each, OID, TID) for each in ("bushy", "lawn"))
    assert blob_files.key_of_path("bushy", lawn) is None
    assert blob_files.key_of_path("lawn", bushy) is None
    assert blob_files.key_of_path("bushy", bushy + ".tmp") is None


@pytest.mark.parametrize("depth", range(1, 9))
def test_a_folder_behind_a_link_is_looked_into(tmp_path, depth):
    path = make(tmp_path / "blobs")
    folder = [*path.relative_to(tmp_path / "blobs").parents][-depth - 1]
    moved = tmp_path / "another disk"
    (tmp_path / "blobs" / folder).rename(moved)
    (tmp_path / "blobs" / folder).symlink_to(moved)
    assert found(tmp_path / "blobs") == [(path, TID)]
    assert blob_files.find_links(tmp_path / "blobs") == [tmp_path / "blobs" / folder]


def test_a_blob_behind_a_link_is_found_and_one_behind_nothing_is_not(tmp_path):
    path = make(tmp_path / "blobs")
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert found(tmp_path / "blobs") == [(path, TID)]
    (tmp_path / "moved").unlink()
    assert found(tmp_path / "blobs") == []


def test_the_blob_directory_may_be_a_link_itself(tmp_path):
    make(tmp_path / "real")
    (tmp_path / "blobs").symlink_to("real")
    assert len(found(tmp_path / "blobs")) == 1
    assert blob_files.find_links(tmp_path / "blobs") == []


def test_a_link_to_nothing_is_refused_by_name(tmp_path):
    make(tmp_path)
    (tmp_path / "0x01").symlink_to(tmp_path / "not mounted")
    with pytest.raises(
        FileUnreadable, match=r"0x01 is a link to .*not mounted"
    ) as error:
        found(tmp_path)
    assert "mounted" in error.value.hint


@pytest.mark.parametrize("levels", [0, 2, 5])
def test_a_link_that_leads_back_is_refused_by_name(tmp_path, levels):
    path = make(tmp_path)
    folder = path.parents[3]
    (folder / "0x05").symlink_to(path.parents[3 + levels])
    match = "0x05 is a link to a folder that it is in"
    with pytest.raises(FileUnreadable, match=match):
        found(tmp_path)


def test_links_to_each_other_are_refused_by_name(tmp_path):
    make(tmp_path)
    (tmp_path / "0x01").symlink_to("0x02")
    (tmp_path / "0x02").symlink_to("0x01")
    with pytest.raises(FileUnreadable, match=f"0x01 .*{os.strerror(errno.ELOOP)}"):
        found(tmp_path)


def refuse_to_list(monkeypatch, name):
    """As for one who is not root, and has no right to read folders of that name."""
    original = os.scandir

    def scandir(path):
        if str(path).endswith(f"/{name}"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_cannot_be_read_is_refused_by_name(tmp_path, monkeypatch):
    make(tmp_path)
    refuse_to_list(monkeypatch, "0x12")
    with pytest.raises(FileUnreadable, match=r"0x12 cannot be read.*Permission denied"):
        found(tmp_path)


@pytest.mark.parametrize(
    "name", ["lost+found", ".snapshot", "tmp", "0x00.bak", "0xAB", "0x123", "old"]
)
def test_what_zodb_never_looks_into_is_left_alone(tmp_path, monkeypatch, name):
    path = make(tmp_path)
    stray = tmp_path / name / path.relative_to(tmp_path)
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"of a snapshot")
    (tmp_path / "lost+found").mkdir(exist_ok=True)
    (path.parent / "0x03f0000000000002.tmp").write_bytes(b"being written")
    (path.parent / "0x03f0000000000003.blob").mkdir()
    refuse_to_list(monkeypatch, name)
    assert found(tmp_path) == [(path, TID)]
    told = [] if name in ("lost+found", ".snapshot", "tmp") else [tmp_path / name]
    assert blob_files.find_other_folders(tmp_path) == told


def test_a_folder_that_goes_meanwhile_is_passed_over(tmp_path, monkeypatch):
    path = make(tmp_path)
    other = make(tmp_path, oid=bytes(8))
    original = os.scandir

    def scandir(folder):
        if str(folder) == str(other.parent):
            other.unlink()
            other.parent.rmdir()
        return original(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert found(tmp_path) == [(path, TID)]


@pytest.mark.parametrize("text", ["zeocache", "", "bushy2", "\x00\xff"])
def test_another_layout_is_refused_by_name(tmp_path, monkeypatch, text):
    # As ZEO registers it, once a client keeps its blobs in this process.
    monkeypatch.setitem(LAYOUTS, "zeocache", LAYOUTS["bushy"])
    (tmp_path / ".layout").write_text(text, encoding="latin-1")
    with pytest.raises(FileUnreadable, match="no blob directory of a storage"):
        blob_files.read_layout(tmp_path)


def test_a_blob_behind_a_link_is_moved_as_a_file(tmp_path):
    path = make(tmp_path / "blobs")
    path.rename(tmp_path / "moved")
    # As seen from there, and from nowhere else.
    path.symlink_to("../" * 9 + "moved")
    blob_files.move_above(tmp_path / "blobs", TID - 1, tmp_path / "a/b/dropped")
    kept = tmp_path / "a/b/dropped" / path.relative_to(tmp_path / "blobs")
    assert (kept.is_symlink(), kept.read_bytes()) == (False, b"a blob")
    assert not path.is_symlink()
