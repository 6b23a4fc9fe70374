"""``tidstorage-restore`` on files that crashes left, and crashes amid it."""

import contextlib
import datetime
import errno
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import records
import transaction
import ZEO
import ZODB
from dying import DIED, die_at_change, in_child
from real import free_port, wait_until, zeo_server
from sites import VotedTransaction
from small_cluster import SmallCluster
from torn_files import TornFiles, coherent_files, json_runner
from ZODB.FileStorage import FileStorage

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.commands.scripts import restore_files
from tidstorage.engines import filestorage
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
from tidstorage.system import child, clock
from tidstorage.verbs.restore import crashed_files, cut_plan
from tidstorage.verbs.restore.crashed_files import Request

pytestmark = pytest.mark.integration
WRITER = Path(__file__).parents[1] / "stamping_writer.py"


@pytest.fixture
def files(tmp_path):
    made = coherent_files(tmp_path / "files")
    yield made
    made.close()


@pytest.fixture
def run(capsys):
    return json_runner(restore_files.main, capsys)


def tear(files):
    """Crash amid the last commit; returns what the files should end with."""
    kept = files.vector()
    sizes = {each: files.size(each) for each in files.paths}
    files.commit("a", meant="a b")
    if "c" in files.paths:
        files.commit("c")
    files.close()
    with files.paths["b"].open("ab") as stream:
        stream.write(b"a part of a vote")
    return kept, sizes


def contents(files):
    return {each: path.read_bytes() for each, path in files.paths.items()}


def last_tids(files):
    return {each: filestorage.last_tid(path) for each, path in files.paths.items()}


def litter(files):
    """Files in the folder that only a run under way needs."""
    folder = next(iter(files.paths.values())).parent
    return [
        each.name
        for each in folder.iterdir()
        if each.name.startswith(".") or each.name.endswith((".cut-plan", "_tmp"))
    ]


class TestCut:
    def test_torn_files(self, files, run):
        kept, sizes = tear(files)
        before = contents(files)
        reported = run(*files.arguments())
        assert last_tids(files) == kept
        assert contents(files) == {k: v[: sizes[k]] for k, v in before.items()}
        assert reported["resumed"] is False
        for storage, done in reported["cut"].items():
            assert done["tid"] == tid.to_text(kept[storage])
            assert done["position"] == sizes[storage]
            assert done["size"] == len(before[storage])
            dropped = Path(done["dropped"])
            assert dropped.parent == files.paths[storage].parent
            assert dropped.read_bytes() == before[storage][sizes[storage] :]
            assert dropped.with_name(dropped.name + ".json").exists()
        assert not litter(files)

    def test_what_saw_a_vote_that_was_given_up_is_kept(self, files, run):
        """Its server forgot it; what comes next in the file tells, and is cut off."""
        files.commit("a", seen={"b": files.last("b") + 5})
        kept = files.vector()
        files.commit("b", meant="b c")
        files.close()
        assert set(run(*files.arguments())["cut"]) == {"a", "b", "c"}
        assert last_tids(files) == kept
        assert not litter(files)

    def test_a_new_timeline_begins(self, files, run):
        old = Point(files.vector(), clock.now(), "barrier", timeline=4)
        write_beside(old, [files.paths["b"]])
        kept, _ = tear(files)
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
        assert last_tids(files) == kept

    def test_files_that_fit_are_left_alone(self, files, run):
        files.close()
        before = contents(files)
        assert run(*files.arguments())["cut"] == {}
        assert contents(files) == before
        assert not [*files.paths["a"].parent.glob("*.point")]

    def test_a_second_run_changes_nothing(self, files, run):
        tear(files)
        run(*files.arguments())
        before = contents(files)
        assert run(*files.arguments())["cut"] == {}
        assert contents(files) == before

    def test_it_goes_on_afterwards(self, files, run, tmp_path):
        tear(files)
        run(*files.arguments())
        again = TornFiles(tmp_path / "files", "a b c")
        again.commit("a b c")
        assert run(*again.arguments(), "--dry-run")["cut"] == {}
        again.close()

    def test_dry_run(self, files, run):
        tear(files)
        names = sorted(files.paths["a"].parent.iterdir())
        before = contents(files)
        planned = run(*files.arguments(), "--dry-run")
        assert contents(files) == before
        assert sorted(files.paths["a"].parent.iterdir()) == names
        done = run(*files.arguments())
        for storage, step in planned["cut"].items():
            assert step["position"] == done["cut"][storage]["position"]

    def test_for_people(self, files, capsys):
        tear(files)
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
        before = contents(torn)
        error = run(*torn.arguments(), status=11)
        assert self.half in error and "never in b" in error
        assert "a: 2 transaction(s)" in error and "b: 1 transaction(s)" in error
        assert "--strict loses" in error and "--tolerant loses" in error
        assert contents(torn) == before
        assert not litter(torn)

    def test_strict(self, torn, run):
        run(*torn.arguments(), "--strict")
        assert last_tids(torn) == self.clean
        assert run(*torn.arguments())["cut"] == {}

    def test_tolerant(self, torn, run):
        """Half commits stay, and stay visible for what follows."""
        again = torn.paths["c"]
        with again.open("ab") as stream:
            stream.write(b"a part of a vote")
        run(*torn.arguments(), "--tolerant")
        assert last_tids(torn) == self.end
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
        assert last_tids(files)["c"] == kept["c"]
        assert run(*files.arguments(), "--tolerant")["cut"] == {}


class TestRefusals:
    def test_open_files(self, files, run):
        files.commit("a", meant="a b")
        before = contents(files)
        assert "is open in another process" in run(*files.arguments(), status=5)
        assert contents(files) == before

    def test_one_open_file(self, files, run):
        tear(files)
        before = contents(files)
        opened = FileStorage(str(files.paths["a"]))
        assert "is open in another process" in run(*files.arguments(), status=5)
        opened.close()
        del before["a"]
        assert {k: v for k, v in contents(files).items() if k != "a"} == before

    def test_a_file_that_is_open_behind_a_link(self, files, run, tmp_path):
        tear(files)
        before = contents(files)
        links = {each: tmp_path / f"{each}-link.fs" for each in files.paths}
        for each, link in links.items():
            link.symlink_to(files.paths[each])
        arguments = [f"{each}={link}" for each, link in links.items()]
        opened = FileStorage(str(files.paths["b"]))
        assert "is open in another process" in run(*arguments, status=5)
        opened.close()
        assert contents(files)["a"] == before["a"]
        run(*arguments)
        assert all(link.is_symlink() for link in links.values())
        assert run(*files.arguments())["cut"] == {}

    def test_dropped_bytes_do_not_fit(self, files, run):
        """Nothing is cut as long as what would be dropped cannot be kept."""
        tear(files)
        before = contents(files)
        folder = files.paths["a"].parent
        folder.chmod(0o500)
        try:
            status = in_child_as_nobody(folder, files)
        finally:
            folder.chmod(0o755)
        assert status == 15
        assert contents(files) == before


def in_child_as_nobody(folder, files):
    """Exit status of the command as a user who may not write there."""

    def run():
        for path in (folder, *folder.iterdir()):
            os.chown(path, 65534, 65534)
        os.setuid(65534)
        os._exit(restore_files.main([*files.arguments(), "--json"]))

    return in_child(run)


def blobs_of(folder):
    """{path below: bytes} of all blobs."""
    return {
        str(each.relative_to(folder)): each.read_bytes()
        for each in folder.rglob("*.blob")
    }


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
        files.commit("a")
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
    tear(files)
    folder = files.paths["a"].parent
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)
    run(*files.arguments())
    assert [*folder.glob("*.dropped-*")] and [*folder.glob("*.point")]
    assert {each.stat().st_uid for each in folder.rglob("*")} == {65534}


class TestInterrupted:
    """Killed at any change it makes, and run again."""

    @staticmethod
    def run_and_die(arguments, number):
        die_at_change(number)
        assert restore_files.main(arguments) == 0

    def test_next_run_ends_it(self, tmp_path):
        original = TornFiles(tmp_path / "original", "a b", blobs="a")
        for written in ("a b", "a", "b", "a b"):
            original.commit(written)
        kept_blobs = blobs_of(original.blobs["a"])
        kept, sizes = tear(original)
        before = contents(original)
        blobs = blobs_of(original.blobs["a"])
        assert len(blobs) > len(kept_blobs)
        deaths = []
        while True:
            folder = tmp_path / str(len(deaths))
            shutil.copytree(tmp_path / "original", folder)
            paths = {each: folder / path.name for each, path in original.paths.items()}
            arguments = [f"{each}={path}" for each, path in paths.items()]
            arguments.append(f"--blobs=a={folder / 'a.blobs'}")

            status = in_child(
                functools.partial(self.run_and_die, arguments, len(deaths) + 1)
            )
            assert status in (0, DIED)
            sizes_now = {each: path.stat().st_size for each, path in paths.items()}
            for each in paths:
                assert sizes_now[each] in (sizes[each], len(before[each]))
            held = [*folder.rglob("*.blob")]
            assert sorted(each.name for each in held) == sorted(
                Path(each).name for each in blobs
            )
            assert restore_files.main(arguments) == 0
            assert blobs_of(folder / "a.blobs") == kept_blobs
            (moved,) = folder.glob("*.dropped-*.blobs")
            assert {**kept_blobs, **blobs_of(moved)} == blobs
            for each, path in paths.items():
                assert path.read_bytes() == before[each][: sizes[each]]
                assert filestorage.last_tid(path) == kept[each]
                (dropped,) = [
                    other
                    for other in folder.glob(f"{path.name}.dropped-*")
                    if other.is_file() and other.suffix != ".json"
                ]
                assert path.read_bytes() + dropped.read_bytes() == before[each]
                assert read_point(point_path(path)).vector == kept
            assert not [*folder.glob("*.cut-plan")]
            if status == 0:
                break
            deaths.append(sizes_now)
        mixed = [
            each for each in deaths if len({each[k] == sizes[k] for k in sizes}) == 2
        ]
        assert len(deaths) > 30 and mixed, len(deaths)

    @pytest.fixture
    def interrupted(self, files, run, monkeypatch):
        """The first file is cut, the others not."""
        tear(files)
        original = cut_plan.truncate_held

        def dying(path, last, keep):
            original(path, last, keep)
            raise KeyboardInterrupt

        monkeypatch.setattr(cut_plan, "truncate_held", dying)
        assert restore_files.main(files.arguments()) == 130
        monkeypatch.undo()
        return files

    def test_whatever_is_asked_for(self, interrupted, run):
        assert run(*interrupted.arguments(), "--dry-run")["resumed"]
        assert run(*interrupted.arguments(), "--tolerant")["resumed"]
        assert not litter(interrupted)

    def test_other_files(self, interrupted, run):
        error = run(*interrupted.arguments()[:2], "--partial", status=19)
        assert interrupted.arguments()[2] in error

    def test_somebody_wrote_meanwhile(self, interrupted, run):
        """An old plan must not cut off what came later."""
        storage = FileStorage(str(interrupted.paths["a"]))
        database = ZODB.DB(storage)
        connection = database.open()
        connection.root()["later"] = 1
        transaction.commit()
        database.close()
        before = contents(interrupted)
        error = run(*interrupted.arguments(), status=19)
        assert "has changed since" in error
        assert contents(interrupted) == before
        for each in interrupted.paths["a"].parent.glob("*.cut-plan"):
            each.unlink()
        run(*interrupted.arguments())

    def test_plan_that_is_none(self, files, run):
        tear(files)
        files.paths["b"].with_name("b.fs.cut-plan").write_text("{")
        assert "not a plan" in run(*files.arguments(), status=16)


@pytest.mark.parametrize("taken", ["", ".json"])
def test_two_cuts_within_a_second_keep_what_each_dropped(files, run, taken):
    """Names are of one second; two of them are taken here for sure."""
    tear(files)
    kept = {}
    for seconds in range(2):
        moment = clock.now() + datetime.timedelta(seconds=seconds)
        path = files.paths["a"].with_name(
            f"a.fs.dropped-{moment:%Y%m%dT%H%M%SZ}{taken}"
        )
        path.write_text("dropped another time")
        kept[path] = path.read_text()
    run(*files.arguments())
    assert {path: path.read_text() for path in kept} == kept


@contextlib.contextmanager
def writer(seed, servers):
    where = {each: server.address for server in servers for each in server.storages}
    with subprocess.Popen(
        [sys.executable, WRITER, json.dumps({"seed": seed, "storages": where})],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child.environment(),
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_servers_and_clients_killed_amid_commits(tmp_path, run):
    """Again and again over the same files; each time what is left fits together.

    A kill need not tear anything, so the last ones are amid a commit for certain.
    """
    for number in range(4):
        with contextlib.ExitStack() as stack:
            alpha = stack.enter_context(zeo_server(tmp_path / "1", ["a", "b"], "alpha"))
            beta = stack.enter_context(zeo_server(tmp_path / "2", ["c"], "beta"))
            servers = [alpha, beta]
            paths = {k: s.data_file(k) for s in servers for k in s.storages}
            before = {each: size(path) for each, path in paths.items()}
            for seed in range(2):
                stack.enter_context(writer(10 * number + seed, servers))
            wait_until(
                lambda: all(
                    size(path) > before[each] + 5000  # noqa: B023
                    for each, path in paths.items()  # noqa: B023
                ),
                "every storage is written to",
            )
            torn = number >= 2
            if torn:
                stack.enter_context(half_finished(servers))
            servers[number % 2].kill()
        held = {each: records.read(path) for each, path in paths.items()}
        found = run(*(f"{k}={v}" for k, v in paths.items()), "--strict")
        left = {each: records.read(path) for each, path in paths.items()}
        for each in paths:
            assert left[each] == held[each][: len(left[each])]
        ends = {each: found[-1][0] for each, found in left.items()}
        assert not records.violations(held, ends)
        assert found["cut"] or not torn


@contextlib.contextmanager
def half_finished(servers):
    """A transaction that all servers have agreed to, and one has finished."""
    alpha, beta = servers
    clients = {
        "a": ZEO.client(alpha.address, storage="a"),
        "c": ZEO.client(beta.address, storage="c"),
    }
    try:
        vector = {
            each: tid.from_bytes(client.lastTransaction()) + 1
            for each, client in clients.items()
        }
        VotedTransaction(clients, vector).finish("a")
        yield
    finally:
        for client in clients.values():
            client.close()


def size(path):
    return path.stat().st_size if path.exists() else 0


class TestDescription:
    """With a cluster's description: its processes, its acknowledgements, its caches."""

    @pytest.fixture
    def small(self, tmp_path, monkeypatch):
        made = SmallCluster(tmp_path)
        monkeypatch.setattr(
            "tidstorage.processes.running.running_parts", made.running_parts
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
        assert last_tids(made) == kept
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
