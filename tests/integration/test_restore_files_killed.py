"""``tidstorage-restore`` that is killed, and on files of servers that were killed."""

import contextlib
import datetime
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
from observed_site import VotedTransaction
from real_processes import wait_until, zeo_server
from torn_files import TornFiles, blobs_of, json_runner
from ZODB.FileStorage import FileStorage

from tidstorage.coherence import tid
from tidstorage.commands.scripts import restore_files
from tidstorage.engines import filestorage
from tidstorage.points.beside import point_path, read_point
from tidstorage.system import child, clock
from tidstorage.verbs.restore import cut_plan

pytestmark = pytest.mark.integration


WRITER = Path(__file__).parents[1] / "stamping_writer.py"


@pytest.fixture
def run(capsys):
    return json_runner(restore_files.main, capsys)


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
        kept, sizes = original.tear()
        before = original.contents()
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
        files.tear()
        original = cut_plan.truncate_held

        def dying(path, last, keep):
            original(path, last, keep)
            raise KeyboardInterrupt

        monkeypatch.setattr(cut_plan, "truncate_held", dying)
        assert restore_files.main(files.arguments()) == 130
        monkeypatch.undo()
        return files

    def test_in_a_folder_whose_name_is_no_utf_8(self, tmp_path, run):
        """The plan of the first run has to be read by the second."""
        folder = tmp_path / os.fsdecode(b"caf\xe9")
        folder.mkdir()
        files = TornFiles(folder, "a b")
        files.commit("a b")
        files.tear()
        status = in_child(functools.partial(self.run_and_die, files.arguments(), 20))
        assert status == DIED
        assert [*folder.glob("*.cut-plan")]
        assert run(*files.arguments(), "--dry-run")["resumed"]
        assert run(*files.arguments())["resumed"]
        assert not files.litter()

    def test_whatever_is_asked_for(self, interrupted, run):
        assert run(*interrupted.arguments(), "--dry-run")["resumed"]
        assert run(*interrupted.arguments(), "--tolerant")["resumed"]
        assert not interrupted.litter()

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
        before = interrupted.contents()
        error = run(*interrupted.arguments(), status=19)
        assert "has changed since" in error
        assert interrupted.contents() == before
        for each in interrupted.paths["a"].parent.glob("*.cut-plan"):
            each.unlink()
        run(*interrupted.arguments())

    def test_plan_that_is_none(self, files, run):
        files.tear()
        files.paths["b"].with_name("b.fs.cut-plan").write_text("{")
        assert "not a plan" in run(*files.arguments(), status=16)


@pytest.mark.parametrize("taken", ["", ".json"])
def test_two_cuts_within_a_second_keep_what_each_dropped(files, run, taken):
    """Names are of one second; two of them are taken here for sure."""
    files.tear()
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
