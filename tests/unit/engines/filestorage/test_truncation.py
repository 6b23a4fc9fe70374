"""Cuts of data files: whatever is cut, and wherever a cut dies, ZODB opens the rest."""

import json
import os
import random
import resource
import shutil
import signal

import pytest
import transaction
import ZODB
from data_files import Writer, append_vote, judged, rebuilt_index, saved_index
from dying import DIED, die_at_change, in_child
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.fsIndex import fsIndex
from zodbpickle import pickle

from tidstorage.coherence import tid
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import index, lock
from tidstorage.errors import ClusterRunning, EngineFailed, NoSpace


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
