"""``tidstorage-restore`` on files that crashes left, and crashes amid it."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from dying import in_child
from real_processes import free_port
from small_cluster import SmallCluster
from torn_files import TornFiles, blobs_of, json_runner
from ZODB.FileStorage import FileStorage

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.commands.scripts import restore_files
from tidstorage.errors import (
    ClusterRunning,
    Damaged,
    InterruptedRestore,
    Locked,
)
from tidstorage.operation import lock
from tidstorage.operation.unfinished import swap_journal
from tidstorage.points import journal
from tidstorage.points.beside import point_path, read_point, write_beside
from tidstorage.points.entries import Acknowledgement
from tidstorage.system import clock
from tidstorage.verbs.restore import crashed_files
from tidstorage.verbs.restore.crashed_files import Request

pytestmark = pytest.mark.integration


@pytest.fixture
def run(capsys):
    return json_runner(restore_files.main, capsys)


class TestCut:
    def test_torn_files(self, files, run):
        kept, sizes = files.tear()
        before = files.contents()
        reported = run(*files.arguments())
        assert files.last_tids() == kept
        assert files.contents() == {k: v[: sizes[k]] for k, v in before.items()}
        assert reported["resumed"] is False
        for storage, done in reported["cut"].items():
            assert done["tid"] == tid.to_text(kept[storage])
            assert done["position"] == sizes[storage]
            assert done["size"] == len(before[storage])
            dropped = Path(done["dropped"])
            assert dropped.parent == files.paths[storage].parent
            assert dropped.read_bytes() == before[storage][sizes[storage] :]
            assert dropped.with_name(dropped.name + ".json").exists()
        assert not files.litter()

    def test_what_saw_a_vote_that_was_given_up_is_kept(self, files, run):
        """Its server forgot it; what comes next in the file tells, and is cut off."""
        files.commit("a", seen={"b": files.last("b") + 5})
        kept = files.vector()
        files.commit("b", meant="b c")
        files.close()
        assert set(run(*files.arguments())["cut"]) == {"a", "b", "c"}
        assert files.last_tids() == kept
        assert not files.litter()

    def test_a_new_timeline_begins(self, files, run):
        old = Point(files.vector(), clock.now(), "barrier", timeline=4)
        write_beside(old, [files.paths["b"]])
        kept, _ = files.tear()
        run(*files.arguments())
        new, *same = (read_point(point_path(each)) for each in files.paths.values())
        assert same == [new, new]
        assert (new.timeline, new.source, new.vector) == (5, "restore", kept)

    def test_garbage_for_a_length(self, files, run):
        """A block that a power cut left of something else."""
        kept = files.vector()
        files.close()
        with files.paths["b"].open("ab") as stream:
            stream.write(bytes([3] * 8) + bytes([255] * 8) + b" " + bytes(6) + b"more")
        run(*files.arguments())
        assert files.last_tids() == kept

    def test_files_that_fit_are_left_alone(self, files, run):
        files.close()
        before = files.contents()
        assert run(*files.arguments())["cut"] == {}
        assert files.contents() == before
        assert not [*files.paths["a"].parent.glob("*.point")]

    def test_a_second_run_changes_nothing(self, files, run):
        files.tear()
        run(*files.arguments())
        before = files.contents()
        assert run(*files.arguments())["cut"] == {}
        assert files.contents() == before

    def test_it_goes_on_afterwards(self, files, run, tmp_path):
        files.tear()
        run(*files.arguments())
        again = TornFiles(tmp_path / "files", "a b c")
        again.commit("a b c")
        assert run(*again.arguments(), "--dry-run")["cut"] == {}
        again.close()

    def test_dry_run(self, files, run):
        files.tear()
        names = sorted(files.paths["a"].parent.iterdir())
        before = files.contents()
        planned = run(*files.arguments(), "--dry-run")
        assert files.contents() == before
        assert sorted(files.paths["a"].parent.iterdir()) == names
        done = run(*files.arguments())
        for storage, step in planned["cut"].items():
            assert step["position"] == done["cut"][storage]["position"]

    def test_for_people(self, files, capsys):
        files.tear()
        assert restore_files.main(files.arguments()) == 0
        output = capsys.readouterr().out
        assert "was cut from" in output and "an unfinished transaction" in output
        assert restore_files.main(files.arguments()) == 0
        assert "fit together" in capsys.readouterr().out


class TestHalfCommits:
    @pytest.fixture
    def torn(self, files):
        clean = files.vector()
        self.half = files.commit("a", meant="a b").hex()
        files.commit("a b")
        self.end = files.vector()
        files.close()
        self.clean = clean
        return files

    def test_the_operator_has_to_choose(self, torn, run):
        before = torn.contents()
        error = run(*torn.arguments(), status=11)
        assert self.half in error and "never in b" in error
        assert "a: 2 transaction(s)" in error and "b: 1 transaction(s)" in error
        assert "--strict loses" in error and "--tolerant loses" in error
        assert torn.contents() == before
        assert not torn.litter()

    def test_strict(self, torn, run):
        run(*torn.arguments(), "--strict")
        assert torn.last_tids() == self.clean
        assert run(*torn.arguments())["cut"] == {}

    def test_tolerant(self, torn, run):
        """Half commits stay, and stay visible for what follows."""
        again = torn.paths["c"]
        with again.open("ab") as stream:
            stream.write(b"a part of a vote")
        run(*torn.arguments(), "--tolerant")
        assert torn.last_tids() == self.end
        found = run(*torn.arguments(), "--tolerant")
        assert found["cut"] == {}
        assert [each["commit"] for each in found["found"]["half_commits"]] == [
            self.half
        ]

    def test_proof_that_is_cut_off(self, files, run):
        """What proves a half commit may itself be torn and dropped."""
        files.commit("a", meant="a b")
        kept = files.vector()
        files.commit("b", meant="b c")
        files.close()
        run(*files.arguments(), "--tolerant")
        assert files.last_tids()["c"] == kept["c"]
        assert run(*files.arguments(), "--tolerant")["cut"] == {}


class TestRefusals:
    def test_open_files(self, files, run):
        files.commit("a", meant="a b")
        before = files.contents()
        assert "is open in another process" in run(*files.arguments(), status=5)
        assert files.contents() == before

    def test_one_open_file(self, files, run):
        files.tear()
        before = files.contents()
        opened = FileStorage(str(files.paths["a"]))
        assert "is open in another process" in run(*files.arguments(), status=5)
        opened.close()
        del before["a"]
        assert {k: v for k, v in files.contents().items() if k != "a"} == before

    def test_a_file_that_is_open_behind_a_link(self, files, run, tmp_path):
        files.tear()
        before = files.contents()
        links = {each: tmp_path / f"{each}-link.fs" for each in files.paths}
        for each, link in links.items():
            link.symlink_to(files.paths[each])
        arguments = [f"{each}={link}" for each, link in links.items()]
        opened = FileStorage(str(files.paths["b"]))
        assert "is open in another process" in run(*arguments, status=5)
        opened.close()
        assert files.contents()["a"] == before["a"]
        run(*arguments)
        assert all(link.is_symlink() for link in links.values())
        assert run(*files.arguments())["cut"] == {}

    @pytest.mark.parametrize("whole", ["a", "c"])
    def test_whole_transactions_are_not_dropped_without_a_word(self, files, run, whole):
        """They follow one that is torn, or saw it, and were acknowledged."""
        files.commit("a", meant="a b")
        files.commit(whole)
        files.close()
        before = files.contents()
        assert "drops 1 whole transaction(s)" in run(*files.arguments(), status=11)
        assert files.contents() == before
        assert run(*files.arguments(), "--strict")["cut"]
        assert files.contents() != before

    def test_dropped_bytes_do_not_fit(self, files, run):
        """Nothing is cut as long as what would be dropped cannot be kept."""
        files.tear()
        before = files.contents()
        folder = files.paths["a"].parent
        folder.chmod(0o500)
        try:
            status = in_child_as_nobody(folder, files)
        finally:
            folder.chmod(0o755)
        assert status == 15
        assert files.contents() == before


def in_child_as_nobody(folder, files):
    """Exit status of the command as a user who may not write there."""

    def run():
        for path in (folder, *folder.iterdir()):
            os.chown(path, 65534, 65534)
        os.setuid(65534)
        os._exit(restore_files.main([*files.arguments(), "--json"]))

    return in_child(run)


class TestBlobs:
    """Those of dropped transactions go where the dropped bytes go."""

    @pytest.fixture(params=["bushy", "lawn"])
    def files(self, request, tmp_path):
        folder = tmp_path / "files"
        (folder / "a.blobs").mkdir(parents=True)
        (folder / "a.blobs" / ".layout").write_text(request.param)
        made = TornFiles(folder, "a b", blobs="a")
        for written in ("a b", "a", "b", "a b"):
            made.commit(written)
        yield made
        made.close()

    @pytest.fixture
    def torn(self, files):
        self.kept = blobs_of(files.blobs["a"])
        files.commit("a", meant="a b")
        files.commit("a", meant="a b")
        files.close()
        self.all = blobs_of(files.blobs["a"])
        assert len(self.all) == len(self.kept) + 2
        return files

    def test_moved(self, torn, run):
        names = sorted(torn.paths["a"].parent.rglob("*"))
        planned = run(*torn.arguments(), *torn.blob_arguments(), "--dry-run")
        assert planned["cut"]["a"]["blobs"] == 2
        assert sorted(torn.paths["a"].parent.rglob("*")) == names
        done = run(*torn.arguments(), *torn.blob_arguments())["cut"]["a"]
        assert done["blobs"] == 2
        assert blobs_of(torn.blobs["a"]) == self.kept
        dropped = Path(done["dropped_blobs"])
        assert dropped.parent == torn.paths["a"].parent
        assert {**self.kept, **blobs_of(dropped)} == self.all

    def test_what_is_kept_is_whole_and_goes_on(self, torn, run, tmp_path):
        run(*torn.arguments(), *torn.blob_arguments())
        again = TornFiles(tmp_path / "files", "a b", blobs="a")
        for commit_id, blob in again.connections["a"].root()["blobs"].items():
            with blob.open() as stream:
                assert stream.read() == commit_id
        again.commit("a b")
        again.close()
        assert run(*again.arguments(), *again.blob_arguments())["cut"] == {}

    def test_for_people(self, torn, capsys):
        def said():
            return capsys.readouterr().out

        arguments = [*torn.arguments(), *torn.blob_arguments()]
        assert restore_files.main([*arguments, "--dry-run"]) == 0
        assert "2 blobs of transactions that are cut off would be" in said()
        assert restore_files.main(arguments) == 0
        assert "2 blobs of transactions that are cut off were moved to" in said()

    def test_to_another_file_system(self, torn, run, monkeypatch):
        """As with a blob directory that is a mount point."""
        original = Path.rename

        def rename(path, target):
            if path.suffix == ".blob" and not path.name.startswith("."):
                raise OSError(errno.EXDEV, "Invalid cross-device link", str(path))
            return original(path, target)

        monkeypatch.setattr(Path, "rename", rename)
        done = run(*torn.arguments(), *torn.blob_arguments())["cut"]["a"]
        assert blobs_of(torn.blobs["a"]) == self.kept
        assert {**self.kept, **blobs_of(Path(done["dropped_blobs"]))} == self.all
        assert not [*Path(done["dropped_blobs"]).rglob("*.copying")]

    def test_of_files_that_are_not_given(self, torn, capsys):
        with pytest.raises(SystemExit):
            restore_files.main([*torn.arguments(), "--blobs", "c=/nowhere"])
        assert "storage c, which is not given" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_leaves_belongs_to_the_owner_of_the_files(files, run):
    files.tear()
    folder = files.paths["a"].parent
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)
    run(*files.arguments())
    assert [*folder.glob("*.dropped-*")] and [*folder.glob("*.point")]
    assert {each.stat().st_uid for each in folder.rglob("*")} == {65534}


class TestDescription:
    """With a cluster's description: its processes, its acknowledgements, its caches."""

    @pytest.fixture
    def small(self, tmp_path, monkeypatch):
        made = SmallCluster(tmp_path)
        monkeypatch.setattr(
            "tidstorage.processes.running.find_running", made.running_parts
        )
        yield made
        made.kill()

    @staticmethod
    def request(cluster, **changes):
        paths = {each.id: each.data_file for each in cluster.storages}
        return Request(paths, {}, frozenset(), cluster=cluster, **changes)

    @staticmethod
    def fill(small):
        """Torn files where the cluster has its own; returns their id's ends."""
        paths = {s: e.data_file(s) for e in small.servers for s in e.storages}
        made = TornFiles(small.folder, "root catalog documents")
        made.close()
        made.paths = paths
        made._open()
        made.commit("root catalog documents")
        return made

    def test_refused_while_a_part_is_up(self, small):
        small.alpha.start()
        with pytest.raises(ClusterRunning, match="ZEO alpha"):
            crashed_files.restore(self.request(small.cluster()))

    def test_refused_amid_another_restore(self, small):
        cluster = small.cluster()
        with lock.hold(cluster, "backup"), pytest.raises(Locked):
            crashed_files.restore(self.request(cluster))
        swap_journal(cluster).write_text("{}")
        with pytest.raises(InterruptedRestore, match="swap"):
            crashed_files.restore(self.request(cluster))

    def test_caches_go_only_when_something_is_cut(self, small):
        cluster = small.cluster()
        caches = cluster.zopes[0].cache_directory
        (caches / "blobs").mkdir(parents=True)
        (caches / "root.zec").write_text("of a lost timeline")
        made = self.fill(small)
        made.close()
        crashed_files.restore(self.request(cluster))
        assert (caches / "root.zec").exists()
        made._open()
        made.commit("root", meant="root catalog")
        made.close()
        crashed_files.restore(self.request(cluster))
        assert caches.is_dir() and not [*caches.iterdir()]

    def test_acknowledged_half_commits_are_not_in_the_way(self, small):
        cluster = small.cluster()
        made = self.fill(small)
        first = made.commit("root", meant="root catalog")
        made.commit("root catalog")
        kept = made.vector()
        made.commit("root", meant="root documents")
        made.close()
        with pytest.raises(Damaged):
            crashed_files.restore(self.request(cluster))
        writing = journal.Journal(cluster.daemon.journal)
        writing.append(Acknowledgement(clock.now(), first, "the operator"))
        writing.close()
        crashed_files.restore(self.request(cluster))
        assert made.last_tids() == kept
        assert crashed_files.restore(self.request(cluster)).plan is None

    def test_files_and_aliases_of_the_description(self, tmp_path, run, monkeypatch):
        """Read from cluster.toml, with nothing of the cluster running."""
        (tmp_path / "cluster.toml").write_text(
            f"""
            [tidstorage]
            address = "127.0.0.1:{free_port()}"
            [[zeo]]
            name = "alpha"
            address = "127.0.0.1:{free_port()}"
            [[storage]]
            id = "root"
            zeo = "alpha"
            mount-point = "/"
            [[storage]]
            id = "catalog"
            zeo = "alpha"
            aliases = ["old"]
            [[retired-storage]]
            id = "gone"
            """
        )
        made = TornFiles(tmp_path / "files", "root old gone")
        made.commit("root old gone")
        kept = made.vector()
        made.commit("root", meant="root old")
        made.close()
        for storage, old in (("root", "root"), ("catalog", "old")):
            path = tmp_path / "var" / "storage" / storage / "Data.fs"
            path.parent.mkdir(parents=True)
            shutil.copy(made.paths[old], path)
        monkeypatch.chdir(tmp_path)
        done = run()["cut"]
        assert {each: found["tid"] for each, found in done.items()} == {
            "root": tid.to_text(kept["root"]),
            "catalog": tid.to_text(kept["old"]),
        }
        assert run("--cluster-file", str(tmp_path / "cluster.toml"))["cut"] == {}
        assert "error" in run("--cluster-file", str(tmp_path / "none"), status=3)
