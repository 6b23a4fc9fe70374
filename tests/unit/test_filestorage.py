"""The FileStorage engine on real files, whole, live, torn and broken."""

import errno
import inspect
import json
import os
import random
import resource
import shutil
import signal
import struct

import pytest
import transaction
import ZODB
from dying import DIED, die_at_change, in_child
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileIterator, FileStorage
from ZODB.fsIndex import fsIndex
from zodbpickle import binary, pickle

from tidstorage import engines
from tidstorage.coherence import stamp, tid
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import copying, index, lock
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.extension import read_stamp
from tidstorage.errors import ClusterRunning, EngineFailed, FileUnreadable, NoSpace


class Writer:
    """A database in one file, written without fsync's cost on small records."""

    def __init__(self, path, seed=0):
        self.path = path
        self.chance = random.Random(seed)
        self.storage = FileStorage(str(path))
        self.database = ZODB.DB(self.storage)
        self.connection = self.database.open()
        self.root = self.connection.root()

    def commit(self, note="", **extension):
        """One stamped transaction; returns its TID."""
        transaction.begin()
        key = self.chance.randrange(8)
        if key in self.root and self.chance.random() < 0.2:
            del self.root[key]
        elif key in self.root:
            size = self.chance.choice([10, 300, 20_000])
            self.root[key]["value"] = self.chance.randbytes(size)
        else:
            self.root[key] = PersistentMapping()
        current = transaction.get()
        current.note(note)
        data = stamp.encode(self.chance.randbytes(16), ["one"], {"one": 7})
        current.setExtendedInfo(stamp.KEY, data)
        for name, value in extension.items():
            current.setExtendedInfo(name, value)
        self.root["count"] = self.root.get("count", 0) + 1
        transaction.commit()
        return tid.from_bytes(self.storage.lastTransaction())

    def undo(self):
        """Undo the last transaction."""
        self.database.undo(self.database.undoLog(0, 1)[0]["id"])
        transaction.commit()

    def pack(self):
        self.database.pack()

    def close(self):
        transaction.abort()
        self.database.close()


@pytest.fixture
def writer(tmp_path):
    made = Writer(tmp_path / "Data.fs")
    yield made
    made.close()


@pytest.fixture
def filled(tmp_path):
    """A closed file of some thirty transactions, with its index."""
    made = Writer(tmp_path / "Data.fs", seed=3)
    for _ in range(25):
        made.commit("a note")
    made.undo()
    for _ in range(5):
        made.commit()
    made.close()
    return tmp_path / "Data.fs"


def judged(path):
    """[(tid, position, end)] by ZODB's own iterator; for files at rest."""
    found = []
    iterator = FileIterator(str(path))
    for each in iterator:
        found.append((tid.from_bytes(each.tid), each._tpos, each._tend + 8))
    iterator.close()
    return found


def ours(records):
    return [(each.tid, each.position, each.end) for each in records]


def rebuilt_index(path, folder):
    """The index FileStorage makes of the file without one."""
    folder.mkdir()
    copy = folder / "Data.fs"
    shutil.copy(path, copy)
    FileStorage(str(copy)).close()
    return saved_index(copy)


def saved_index(path):
    loaded = fsIndex.load(str(index.path_of(path)))
    return loaded["pos"], dict(loaded["index"].items())


def append_vote(path, length=500, whole=True):
    """What a server leaves that is killed between vote and finish."""
    with path.open("ab") as stream:
        position = stream.tell()
        body = struct.pack(">QQcHHH", 1 << 62, 23 + length, b"c", 0, 0, 0)
        body += os.urandom(length) + struct.pack(">Q", 23 + length)
        stream.write(body if whole else body[: len(body) // 2])
    return position


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


class Theirs:
    """What another product might leave in an extension; notes its loading."""

    called = False

    def __reduce__(self):
        return note_call, ()


def note_call():
    Theirs.called = True


class TestStamps:
    DATA = stamp.encode(b"i" * 16, ["one"], {"one": 5, "old": 9})

    def test_read_with_aliases(self, writer):
        writer.commit()
        record = [*filestorage.read_records(writer.path, aliases={"one": "new"})][-1]
        assert record.stamp.participants == {"new"}
        assert record.record.tid == record.tid

    def test_beside_what_others_put_there(self):
        pickle.loads(pickle.dumps(Theirs(), 3))
        assert Theirs.called
        Theirs.called = False
        for value in (Theirs(), tid.to_time(1 << 60), binary(b"x"), [Theirs()]):
            data = pickle.dumps({"a": value, stamp.KEY: self.DATA, "z": value}, 3)
            assert read_stamp(data, {}) == stamp.decode(self.DATA)
        assert not Theirs.called

    @pytest.mark.parametrize(
        "value", [b"", b"tids", "text", 5, None, {}, DATA[:-1], b"\2" + DATA[1:]]
    )
    def test_malformed_is_unstamped(self, value):
        assert read_stamp(pickle.dumps({stamp.KEY: value}, 3), {}) is None

    def test_any_bytes_are_unstamped(self):
        chance = random.Random(2)
        good = pickle.dumps({stamp.KEY: self.DATA, "other": [1, 2.0, "x"]}, 3)
        assert read_stamp(good, {})
        for _ in range(2000):
            bad = bytearray(good)
            # Beyond the memo's opcodes, whose argument would be its size.
            bad[chance.randrange(len(bad))] = chance.randrange(0x72)
            read_stamp(bytes(bad), {})
            read_stamp(bytes(good[: chance.randrange(len(good))]), {})
        assert read_stamp(b"tids", {}) is None
        assert read_stamp(b"\x80\x03(tids", {}) is None


class TestTruncate:
    def test_each_cut_opens_as_if_it_had_ended_there(self, filled, tmp_path):
        """The index wound back is the one FileStorage would build."""
        expected = judged(filled)
        for number, (last, _, end) in enumerate(expected):
            folder = tmp_path / str(number)
            folder.mkdir()
            path = folder / "Data.fs"
            shutil.copy(filled, path)
            shutil.copy(index.path_of(filled), index.path_of(path))
            assert filestorage.truncate(path, last) == end == path.stat().st_size
            assert judged(path) == expected[: number + 1]
            assert saved_index(path) == rebuilt_index(path, folder / "rebuilt")
            reopened = FileStorage(str(path))
            assert reopened._used_index
            assert tid.from_bytes(reopened.lastTransaction()) == last
            reopened.close()

    @pytest.mark.parametrize("seed", range(8))
    def test_index_of_random_histories(self, tmp_path, seed):
        """With packs, undo, deletions, and an index that is older than the file."""
        writer = Writer(tmp_path / "Data.fs", seed)
        chance = random.Random(seed)
        floor = 0
        for _ in range(60):
            chosen = chance.random()
            last = writer.commit()
            if chosen < 0.15:
                writer.undo()
            elif chosen < 0.2:
                writer.pack()
                floor = last
            elif chosen < 0.3:
                writer.storage._save_index()
        if seed % 2:
            writer.storage._save_index()
        path = tmp_path / "copy" / "Data.fs"
        path.parent.mkdir()
        shutil.copy(writer.path, path)
        shutil.copy(index.path_of(writer.path), index.path_of(path))
        writer.close()
        keep = [each for each in judged(path) if each[0] >= floor]
        last = chance.choice(keep)[0]
        filestorage.truncate(path, last)
        FileStorage(str(path)).close()
        assert saved_index(path) == rebuilt_index(path, tmp_path / "rebuilt")
        assert filestorage.last_tid(path) == last

    def test_objects_after_the_cut(self, writer):
        for number in range(5):
            writer.root["number"] = number
            writer.root[f"new {number}"] = PersistentMapping()
            last = tid.from_bytes(writer.storage.lastTransaction())
            transaction.commit()
        writer.close()
        filestorage.truncate(writer.path, last)
        database = ZODB.DB(str(writer.path))
        connection = database.open()
        assert connection.root()["number"] == 3
        assert "new 4" not in connection.root()
        assert len(database.storage) == 5
        database.close()

    def test_foreign_index_is_removed(self, filled, tmp_path):
        other = Writer(tmp_path / "other.fs", seed=9)
        for _ in range(10):
            other.commit()
        other.close()
        last = judged(filled)[20][0]
        shutil.copy(index.path_of(other.path), index.path_of(filled))
        filestorage.truncate(filled, last)
        assert not index.path_of(filled).exists()

    def test_index_that_was_changed_is_removed(self, filled):
        """It ends at a boundary, but is not what these transactions left."""
        loaded = fsIndex.load(str(index.path_of(filled)))
        loaded["index"][b"\0" * 8] = judged(filled)[-2][1] + 50
        loaded["index"].save(loaded["pos"], str(index.path_of(filled)))
        filestorage.truncate(filled, judged(filled)[-2][0])
        assert not index.path_of(filled).exists()

    @pytest.mark.parametrize("content", [b"", b"rubbish", pickle.dumps(10**12)])
    def test_bad_index_is_removed(self, filled, content):
        index.path_of(filled).write_bytes(content)
        filestorage.truncate(filled, judged(filled)[20][0])
        assert not index.path_of(filled).exists()
        assert len(judged(filled)) == 21

    def test_index_beyond_the_end_is_removed_where_nothing_is_cut(self, filled):
        last, _, end = judged(filled)[20]
        with filled.open("r+b") as stream:
            stream.truncate(end)
        filestorage.truncate(filled, last)
        assert not index.path_of(filled).exists()

    def test_to_nothing(self, filled):
        content = filled.read_bytes()
        keep = filled.with_name("dropped")
        assert filestorage.truncate(filled, 1, keep) == 4
        assert filled.read_bytes() + keep.read_bytes() == content
        assert not index.path_of(filled).exists()
        reopened = FileStorage(str(filled))
        assert len(reopened) == 0
        reopened.close()

    def test_what_is_dropped_can_be_put_back(self, filled):
        append_vote(filled)
        content = filled.read_bytes()
        keep = filled.with_name("dropped")
        last, _, end = judged(filled)[7]
        filestorage.truncate(filled, last, keep)
        described = json.loads(keep.with_name("dropped.json").read_text())
        assert described["position"] == end == filled.stat().st_size
        assert described["size"] == len(content)
        assert described["last"] == tid.to_text(last)
        with filled.open("ab") as stream:
            stream.write(keep.read_bytes())
        assert filled.read_bytes() == content

    def test_only_the_unfinished_is_dropped(self, filled):
        content = filled.read_bytes()
        append_vote(filled, whole=False)
        keep = filled.with_name("dropped")
        filestorage.truncate(filled, filestorage.last_tid(filled), keep)
        assert filled.read_bytes() == content and keep.stat().st_size
        keep.unlink()
        filestorage.truncate(filled, filestorage.last_tid(filled), keep)
        assert not keep.exists()

    def test_what_was_kept_before_is_never_written_over(self, filled):
        keep = filled.with_name("dropped")
        keep.write_text("mine")
        before = filled.read_bytes()
        with pytest.raises(EngineFailed, match="another time"):
            filestorage.truncate(filled, judged(filled)[7][0], keep)
        keep.unlink()
        filestorage.truncate(filled, judged(filled)[-2][0], keep)
        kept, after = keep.read_bytes(), filled.read_bytes()
        assert after != before
        with pytest.raises(EngineFailed, match="another time"):
            filestorage.truncate(filled, judged(filled)[7][0], keep)
        assert (keep.read_bytes(), filled.read_bytes()) == (kept, after)

    def test_refused_while_open(self, writer):
        last = writer.commit()
        writer.commit()
        before = writer.path.read_bytes()
        assert lock.is_held(writer.path)
        with pytest.raises(ClusterRunning, match=f"process {os.getpid()}"):
            filestorage.truncate(writer.path, last)
        assert writer.path.read_bytes() == before
        writer.close()
        assert lock.path_of(writer.path).exists()
        assert not lock.is_held(writer.path)
        filestorage.truncate(writer.path, last)
        assert filestorage.last_tid(writer.path) == last

    def test_full_disk_changes_nothing(self, filled):
        """A limit on the size of files stands for a disk without room."""
        before = filled.read_bytes(), index.path_of(filled).read_bytes()
        last = judged(filled)[3][0]
        keep = filled.with_name("dropped")

        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            with pytest.raises(NoSpace, match="dropped"):
                filestorage.truncate(filled, last, keep)

        assert in_child(limited) == 0
        assert (filled.read_bytes(), index.path_of(filled).read_bytes()) == before
        assert not keep.exists()
        filestorage.truncate(filled, last, keep)
        assert filled.read_bytes() + keep.read_bytes() == before[0]


class TestCrash:
    """A process that dies at any step of a cut, and the run after it."""

    def test_truncate(self, filled, tmp_path):
        content = filled.read_bytes()
        last, _, end = judged(filled)[12]
        deaths = 0
        while True:
            folder = tmp_path / f"death {deaths}"
            folder.mkdir()
            path, keep = folder / "Data.fs", folder / "dropped"
            shutil.copy(filled, path)
            shutil.copy(index.path_of(filled), index.path_of(path))

            def cut(path=path, keep=keep, number=deaths + 1):
                die_at_change(number)
                filestorage.truncate(path, last, keep)

            status = in_child(cut)
            assert status in (0, DIED)
            # Nothing is lost, and ZODB can open what is there, to either end.
            assert content.startswith(path.read_bytes())
            if path.stat().st_size < len(content):
                assert path.read_bytes() + keep.read_bytes() == content
            opened = folder / "opened"
            opened.mkdir()
            shutil.copy(path, opened)
            if index.path_of(path).exists():
                shutil.copy(index.path_of(path), opened)
            judge = FileStorage(str(opened / "Data.fs"))
            assert judge.getSize() == path.stat().st_size
            judge.close()

            filestorage.truncate(path, last, keep)
            assert path.stat().st_size == end
            assert path.read_bytes() + keep.read_bytes() == content
            assert saved_index(path) == rebuilt_index(path, folder / "rebuilt")
            if status == 0:
                break
            deaths += 1
        assert deaths > 12


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


def test_where_tids_go_backwards_the_end_is_still_the_end(tmp_path):
    """A server's start cuts behind the last transaction, and nothing else."""
    path = tmp_path / "Data.fs"
    storage = FileStorage(str(path))
    for number in (7, 5):
        metadata = TransactionMetaData()
        storage.tpc_begin(metadata, tid.to_bytes(number << 40))
        storage.restore(
            tid.to_bytes(number), tid.to_bytes(number << 40), b"x", "", None, metadata
        )
        storage.tpc_vote(metadata)
        storage.tpc_finish(metadata)
    storage.close()
    size = path.stat().st_size
    assert filestorage.truncate(path, filestorage.last_tid(path)) == size
    assert path.stat().st_size == size


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


CONTRACT = [
    (engines.Records, filestorage),
    (engines.Cutting, filestorage),
    (engines.Copies, filestorage),
    (engines.Index, filestorage.index),
    (engines.Lock, filestorage.lock),
    (engines.Blobs, filestorage.blob_files),
    (engines.File, DataFile),
]


@pytest.mark.parametrize("contract, engine", CONTRACT)
def test_the_contract_of_an_engine_is_kept(contract, engine):
    """Every operation is there, with the same parameters in the same order."""
    promised = {
        name: operation
        for name, operation in vars(contract).items()
        if inspect.isfunction(operation) and not name.startswith("_")
    }
    assert promised
    for name, operation in promised.items():
        wanted = [*inspect.signature(operation).parameters.values()]
        offered = [*inspect.signature(getattr(engine, name)).parameters.values()]
        if not inspect.isclass(engine):
            wanted = wanted[1:]
        assert [(each.name, each.kind) for each in offered] == [
            (each.name, each.kind) for each in wanted
        ], name
        for ours, theirs in zip(offered, wanted, strict=True):
            assert (ours.default is ours.empty) == (theirs.default is theirs.empty)
            if theirs.default not in (theirs.empty, ...):
                assert ours.default == theirs.default, name
        assert operation.__doc__
