"""gzip that others read, and theirs."""

import gzip
import io
import os
import random

import pytest

from tidstorage.sets.compression import DAMAGED, open_gzip_reader, open_gzip_writer

CONTENTS = {
    "nothing": b"",
    "a byte": b"x",
    "text": b"to be or not to be, " * 200_000,
    "noise": random.Random(1).randbytes(3_000_001),
    "zeros": bytes(5_000_000),
}


def compressed(content, block=1 << 20):
    target = io.BytesIO()
    with open_gzip_writer(target) as opened:
        for start in range(0, len(content), block):
            opened.write(content[start : start + block])
    return target.getvalue()


@pytest.mark.parametrize("name", CONTENTS)
def test_the_standard_library_reads_what_we_write(name):
    content = CONTENTS[name]
    assert gzip.decompress(compressed(content)) == content


@pytest.mark.parametrize("name", CONTENTS)
def test_we_read_what_the_standard_library_writes(name):
    content = CONTENTS[name]
    with open_gzip_reader(io.BytesIO(gzip.compress(content))) as opened:
        assert opened.read() == content


def test_it_is_compressed():
    assert len(compressed(CONTENTS["text"])) < 100_000


@pytest.mark.parametrize("place", [0, 500, -6, -2])
def test_a_byte_that_rotted_is_noticed(place):
    """In the header, in the data, in the checksum, in the length."""
    packed = bytearray(compressed(os.urandom(2_000) * 2_000))
    packed[place] ^= 1
    with pytest.raises(DAMAGED), open_gzip_reader(io.BytesIO(bytes(packed))) as opened:
        opened.read()


@pytest.mark.parametrize("left", [5, 30, -1])
def test_a_file_that_ends_too_soon_is_noticed(left):
    packed = compressed(CONTENTS["text"])[:left]
    with pytest.raises(DAMAGED), open_gzip_reader(io.BytesIO(packed)) as opened:
        opened.read()


class _Full(io.BytesIO):
    def write(self, data):
        if self.tell() + len(data) > 100_000:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_full_disk_is_told_to_who_writes():
    with (
        pytest.raises(OSError, match="No space left"),
        open_gzip_writer(_Full()) as opened,
    ):
        for _ in range(20):
            opened.write(os.urandom(1 << 20))
