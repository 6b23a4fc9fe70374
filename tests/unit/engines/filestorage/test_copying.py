"""What is copied is the same; holes are not read, not written, and stay holes."""

import errno
import os

import pytest

from tidstorage.engines.filestorage import copying
from tidstorage.engines.filestorage.copying import SparseWriter, read_range

MIB = 1 << 20


def written(path, blocks):
    with path.open("wb") as opened:
        target = SparseWriter(opened.fileno())
        for block in blocks:
            assert target.write(block) == len(block)
        target.finish()
        assert target.tell() == sum(map(len, blocks))
    return path


def taken(path):
    return path.stat().st_blocks * 512


BLOCKS = {
    "nothing": [],
    "data": [os.urandom(300_000)],
    "zeros": [bytes(MIB)] * 40,
    "zeros of odd length": [bytes(MIB)] * 40 + [bytes(12_345)],
    "data before": [os.urandom(MIB), *[bytes(MIB)] * 40],
    "data behind": [*[bytes(MIB)] * 40, b"end"],
    "within a block": [os.urandom(70_000) + bytes(900_000) + os.urandom(70_000)] * 20,
    "single bytes": [bytes(500_000) + b"x" + bytes(548_575)] * 20,
    "few zeros": [(b"x" + bytes(1_000)) * 500],
}


@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_written_is_what_is_there(tmp_path, name):
    path = written(tmp_path / "file", BLOCKS[name])
    assert path.read_bytes() == b"".join(BLOCKS[name])


@pytest.mark.parametrize("name", [*BLOCKS][2:8])
def test_zeros_take_no_room(tmp_path, name):
    path = written(tmp_path / "file", BLOCKS[name])
    data = sum(len(each) - each.count(0) for each in BLOCKS[name])
    assert taken(path) < data + 20 * 3 * 64 * 1024 < path.stat().st_size


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("start", [0, 777_777])
def test_a_stretch_is_read_as_it_is(tmp_path, name, start):
    path = written(tmp_path / "file", BLOCKS[name])
    content = path.read_bytes()
    start = min(start, len(content))
    for length in {len(content) - start, (len(content) - start) // 2}:
        with path.open("rb") as opened:
            found = b"".join(read_range(opened.fileno(), start, length))
        assert found == content[start : start + length]


def test_holes_are_not_read(tmp_path, monkeypatch):
    path = written(tmp_path / "file", [*[bytes(MIB)] * 200, b"end"])
    real, read = os.pread, []

    def counting(descriptor, count, position):
        found = real(descriptor, count, position)
        read.append(len(found))
        return found

    monkeypatch.setattr(copying.os, "pread", counting)
    with path.open("rb") as opened:
        assert sum(map(len, read_range(opened.fileno(), 0, 200 * MIB + 3)))
    assert sum(read) <= 64 * 1024


def test_an_error_names_the_file(tmp_path, monkeypatch):
    path = written(tmp_path / "file", BLOCKS["data"])

    def fail(*_arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(copying.os, "pread", fail)
    with path.open("rb") as opened, pytest.raises(OSError) as caught:
        list(read_range(opened.fileno(), 0, 10))
    assert caught.value.filename == str(path)
    monkeypatch.setattr(copying.os, "pwrite", fail)
    with pytest.raises(OSError) as caught:
        written(tmp_path / "other", BLOCKS["data"])
    assert caught.value.filename == str(tmp_path / "other")


@pytest.mark.parametrize("holes", [0, 50])
def test_a_file_that_is_too_short_is_an_error(tmp_path, holes):
    path = written(tmp_path / "file", [b"x" * 1000, *[bytes(MIB)] * holes])
    size = path.stat().st_size
    with path.open("rb") as opened, pytest.raises(OSError, match="became shorter"):
        list(read_range(opened.fileno(), 0, size + 1))


class TestCopy:
    def test_without_help_of_the_kernel(self, filled, tmp_path, monkeypatch):
        def refused(*arguments):
            raise OSError(errno.EXDEV, "another file system")

        monkeypatch.setattr(os, "copy_file_range", refused)
        target = tmp_path / "copy.fs"
        with filled.open("rb") as read, target.open("wb") as written:
            size = filled.stat().st_size
            copying.copy_range(read.fileno(), written.fileno(), 0, size)
        assert target.read_bytes() == filled.read_bytes()

    def test_holes_stay_holes(self, tmp_path):
        source, target = tmp_path / "source", tmp_path / "target"
        with source.open("wb") as stream:
            stream.write(b"x" * 10_000)
            stream.seek(50_000_000)
            stream.write(b"y" * 10_000)
            stream.truncate(90_000_000)
        with source.open("rb") as read, target.open("wb") as written:
            copying.copy_range(read.fileno(), written.fileno(), 0, 90_000_000)
        assert target.stat().st_size == 90_000_000
        assert target.stat().st_blocks * 512 < 1_000_000
        assert target.read_bytes() == source.read_bytes()
