"""Data files read record by record: whole, live, torn and broken."""

import os
import random

import pytest
import transaction
import ZODB
from data_files import Writer, append_vote, judged, ours

from tidstorage.coherence import tid
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import index
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.errors import FileUnreadable


class TestReading:
    def test_forward_and_backward_agree_with_zodb(self, filled):
        expected = judged(filled)
        assert len(expected) > 30
        assert ours(filestorage.read_records(filled)) == expected
        assert ours(filestorage.read_backward(filled)) == expected[::-1]
        assert filestorage.last_tid(filled) == expected[-1][0]

    def test_each_start_is_found(self, filled):
        expected = judged(filled)
        for number, (last, _, end) in enumerate(expected):
            assert filestorage.position_after(filled, last) == end
            after = filestorage.read_records(filled, after=last)
            assert ours(after) == expected[number + 1 :]
            until = filestorage.read_records(filled, until=last)
            assert ours(until) == expected[: number + 1]
            assert filestorage.position_after(filled, last + 1) == end

    def test_before_the_first_is_all(self, filled):
        first = judged(filled)[0][0]
        assert filestorage.position_after(filled, first - 1) == 4
        assert len([*filestorage.read_records(filled, first - 1)]) == len(
            judged(filled)
        )

    def test_large_and_small_transactions(self, writer):
        for size in (10, 9_000, 200_000, 10, 4_000, 300_000, 50):
            writer.root["large"] = os.urandom(size)
            transaction.commit()
        expected = judged(writer.path)
        assert ours(filestorage.read_records(writer.path)) == expected
        assert ours(filestorage.read_backward(writer.path)) == expected[::-1]

    def test_empty_and_missing(self, tmp_path):
        path = tmp_path / "Data.fs"
        with pytest.raises(FileUnreadable, match="No such file"):
            filestorage.last_tid(path)
        for content in (b"", b"FS30"):
            path.write_bytes(content)
            assert filestorage.last_tid(path) == 0
            assert [*filestorage.read_records(path)] == []
            assert filestorage.position_after(path, 5) == 4
            assert filestorage.truncate(path, 5) == 4
            assert path.read_bytes() == content

    def test_another_kind_of_file(self, tmp_path):
        path = tmp_path / "Data.fs"
        path.write_bytes(b"#!/bin/sh\n" * 20)
        with pytest.raises(FileUnreadable, match="starts with"):
            filestorage.last_tid(path)
        with pytest.raises(FileUnreadable, match="directory"):
            filestorage.last_tid(tmp_path)

    def test_unfinished_transactions_are_not_given(self, writer):
        """Seen through a vote, its finish and an abort."""
        writer.commit()
        expected = judged(writer.path)
        meta = ZODB.Connection.TransactionMetaData()
        writer.storage.tpc_begin(meta)
        writer.storage.tpc_vote(meta)
        assert ours(filestorage.read_records(writer.path)) == expected
        with filestorage.DataFile(writer.path) as data_file:
            assert data_file.end().reason == "voted"
            assert data_file.end().position == expected[-1][2]
        assert ours(filestorage.read_backward(writer.path)) == expected[::-1]
        writer.storage.tpc_finish(meta)
        assert len([*filestorage.read_records(writer.path)]) == len(expected) + 1
        with filestorage.DataFile(writer.path) as data_file:
            assert data_file.end().reason == "clean"

    @pytest.mark.parametrize("whole", [True, False])
    @pytest.mark.parametrize("indexed", [True, False])
    def test_tail_that_a_crash_left(self, filled, whole, indexed):
        expected = judged(filled)
        end = append_vote(filled, whole=whole)
        if not indexed:
            index.path_of(filled).unlink()
        assert ours(filestorage.read_records(filled)) == expected
        assert ours(filestorage.read_backward(filled)) == expected[::-1]
        assert filestorage.last_tid(filled) == expected[-1][0]
        assert filestorage.position_after(filled, expected[-1][0]) == end

    def test_every_truncation_ends_at_a_boundary(self, filled):
        """Wherever a crash cuts the file off, the whole ones before are found."""
        expected = judged(filled)
        content = filled.read_bytes()
        chance = random.Random(1)
        ends = [4, *(each[2] for each in expected)]
        for size in [*chance.sample(range(4, len(content)), 60), *ends]:
            filled.write_bytes(content[:size])
            whole = [each for each in expected if each[2] <= size]
            assert ours(filestorage.read_records(filled)) == whole, size
            assert ours(filestorage.read_backward(filled)) == whole[::-1], size
            with filestorage.DataFile(filled) as data_file:
                reason = "clean" if size in ends else "torn"
                assert data_file.end().reason == reason, size

    def test_zeros_that_a_power_cut_left(self, filled):
        expected = judged(filled)
        with filled.open("ab") as stream:
            stream.write(bytes(3_000_000))
        assert ours(filestorage.read_records(filled)) == expected
        assert filestorage.last_tid(filled) == expected[-1][0]

    @pytest.mark.parametrize(
        ("offset", "content"),
        [(8, b"\0\0\0\1"), (8, b"\0" * 8), (16, b"x"), (16, b"c"), (15, b"\xff")],
    )
    def test_broken_in_the_middle(self, filled, offset, content):
        position = judged(filled)[10][1]
        with filled.open("r+b") as stream:
            stream.seek(position + offset)
            stream.write(content)
        with pytest.raises(FileUnreadable, match=f"broken at byte {position}"):
            list(filestorage.read_records(filled))
        with pytest.raises(FileUnreadable, match="broken"):
            list(filestorage.read_backward(filled))

    def test_backward_tids(self, filled):
        position = judged(filled)[10][1]
        with filled.open("r+b") as stream:
            stream.seek(position)
            stream.write(b"\0" * 7 + b"\1")
        with pytest.raises(FileUnreadable, match=f"backwards at byte {position}"):
            list(filestorage.read_records(filled))

    def test_a_data_file_stored_in_a_data_file(self, filled, tmp_path):
        """A torn vote that ends where an inner file's transaction ends."""
        writer = Writer(tmp_path / "outer.fs")
        writer.commit()
        last = tid.from_bytes(writer.storage.lastTransaction())
        writer.root["upload"] = filled.read_bytes()
        transaction.commit()
        writer.close()
        outer = tmp_path / "outer.fs"
        content = outer.read_bytes()
        inner_end = content.index(filled.read_bytes()) + filled.stat().st_size
        outer.write_bytes(content[:inner_end])
        assert filestorage.last_tid(outer) == last

    def test_undone_status(self, filled):
        """Of long ago: ZODB's iterator fails on it, and ignores what it holds."""
        expected = judged(filled)
        with filled.open("r+b") as stream:
            stream.seek(expected[10][1] + 16)
            stream.write(b"u")
        records = [*filestorage.read_records(filled)]
        assert ours(records) == expected
        assert records[10].stamp is None and records[11].stamp is not None

    def test_pack_swaps_the_file_under_a_reader(self, writer):
        for _ in range(30):
            writer.commit()
        expected = judged(writer.path)
        records = filestorage.read_records(writer.path)
        begun = [next(records)]
        writer.pack()
        assert ours([*begun, *records]) == expected
        assert ours(filestorage.read_records(writer.path)) == judged(writer.path)

    def test_packed(self, writer):
        for _ in range(10):
            packed = writer.commit()
        assert not filestorage.packed_above(writer.path, 0)
        with filestorage.DataFile(writer.path) as data_file:
            assert filestorage.last_packed(data_file) == 0
        writer.pack()
        last = writer.commit()
        assert filestorage.packed_above(writer.path, 0) == packed
        assert filestorage.packed_above(writer.path, packed - 1) == packed
        assert not filestorage.packed_above(writer.path, packed)
        assert not filestorage.packed_above(writer.path, last)
        with filestorage.DataFile(writer.path) as data_file:
            assert filestorage.last_packed(data_file) == packed
            end = data_file.boundary_after(packed - 1)
            assert filestorage.last_packed(data_file, end) < packed


def test_a_vote_given_up_while_the_end_is_looked_for(filled, monkeypatch):
    """The file gets shorter under its reader, and another vote begins."""
    *_, before, last = judged(filled)
    with filled.open("r+b") as stream:
        stream.seek(last[1] + 16)
        stream.write(b"c")
    size = filled.stat().st_size
    is_boundary = DataFile.is_boundary

    def given_up_then(self, end):
        found = is_boundary(self, end)
        if end == size and found:
            os.truncate(filled, last[1])
            with filled.open("ab") as stream:
                stream.write(b"a vote that begins")
        return found

    monkeypatch.setattr(DataFile, "is_boundary", given_up_then)
    with DataFile(filled) as data_file:
        assert next(data_file.backward()).tid == before[0]
    assert filled.stat().st_size < size
