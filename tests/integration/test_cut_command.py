"""``tidstorage-cut`` on files at rest, torn, packed, and while servers write."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import records
from real_processes import PATIENCE, wait_until, zeo_server
from torn_files import TornFiles, coherent_files, json_runner
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.commands.scripts import cut, restore_files
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import cut_files, cut_from_the_ends
from tidstorage.errors import FloorNeeded
from tidstorage.points.beside import point_path, read_point, write_beside
from tidstorage.system import child, clock

pytestmark = pytest.mark.integration
WRITER = Path(__file__).parents[1] / "stamping_writer.py"


@pytest.fixture
def files(tmp_path):
    made = coherent_files(tmp_path)
    yield made
    made.close()


@pytest.fixture
def run(capsys):
    return json_runner(cut.main, capsys)


def keep_point(files, **changes):
    """Leave a point beside the files; returns it."""
    vector = files.vector()
    kept = Point(**{"vector": vector, "time": clock.now(), "source": "barrier"})
    write_beside(kept, files.paths.values())
    return kept


def keep_point_of(files, storages):
    """Leave a point as of before the other storages were added; returns it."""
    vector = {each: files.last(each) for each in storages.split()}
    kept = Point(vector, clock.now(), "barrier")
    write_beside(kept, [files.paths[each] for each in vector])
    return kept


def as_json(files, vector=None):
    return {
        storage: {
            "tid": tid.to_text((vector or files.vector())[storage]),
            "position": files.size(storage),
        }
        for storage in files.paths
    }


class TestOutput:
    def test_exactly(self, files, run):
        """Whole, then with a transaction that is torn without a proof."""
        expected = as_json(files)
        unstamped = dict.fromkeys("abc", 1)  # ZODB.DB made the roots
        assert run(*files.arguments()) == {
            "strict": expected,
            "tolerant": expected,
            "half_commits": [],
            "unstamped": unstamped,
        }
        files.commit("a", meant="a b")
        assert run(*files.arguments())["tolerant"] == expected

    def test_half_commit(self, files, run):
        clean = as_json(files)
        half = files.commit("a", meant="a b")
        present = files.last("a")
        files.commit("a b")
        files.commit("c", seen={})
        found = run(*files.arguments())
        assert found["tolerant"] == as_json(files)
        assert found["half_commits"] == [
            {
                "commit": half.hex(),
                "present": {"a": tid.to_text(present)},
                "missing": ["b"],
            }
        ]
        assert {each: found["strict"][each] for each in "ab"} == {
            each: clean[each] for each in "ab"
        }
        assert found["strict"]["c"] == found["tolerant"]["c"]

    def test_unstamped_are_counted(self, files, run):
        files.commit("b", stamped=False)
        files.commit("b", stamped=False)
        assert run(*files.arguments())["unstamped"] == {"a": 1, "b": 3, "c": 1}

    def test_for_people(self, files, capsys):
        files.commit("a", meant="a b")
        files.commit("a b")
        assert cut.main(files.arguments()) == 0
        output, errors = capsys.readouterr()
        assert "strict: without half commits" in output
        assert "half commit" in errors and "never will be to b" in errors
        assert "1 transactions have no stamp" in errors

    def test_empty_storage(self, files, run, tmp_path):
        (tmp_path / "d.fs").write_bytes(b"")
        found = run(*files.arguments(), f"d={tmp_path}/d.fs")
        assert found["strict"]["d"] == {"tid": "0x" + "0" * 16, "position": 4}

    def test_installed(self, files):
        finished = subprocess.run(
            [Path(sys.executable).parent / "tidstorage-cut", *files.arguments()],
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        assert "kept until" in finished.stdout


class TestIds:
    def test_a_storage_that_is_not_given(self, files, run):
        some = [each for each in files.arguments() if not each.startswith("c=")]
        assert "error:" in run(*some, status=12)
        found = run(*some, "--partial")
        assert found["strict"].keys() == {"a", "b"}
        assert run(*some, "--retired", "c")["strict"] == found["strict"]

    def test_alias(self, files, run):
        expected = run(*files.arguments())
        renamed = [each.replace("c=", "new=") for each in files.arguments()]
        assert "error:" in run(*renamed, status=12)
        found = run(*renamed, "--alias", "c=new")
        assert found["strict"]["new"] == expected["strict"]["c"]

    def test_old_json_id(self, files, run):
        old = '[[["127.0.0.1", 8100]], "c=d"]'
        files.commit("a", seen={old: files.last("c") + 1})
        found = run(*files.arguments(), "--alias", f"{old}=c")
        assert found["strict"] == as_json(files)

    @pytest.mark.parametrize(
        "arguments", [["a"], ["a="], ["=x"], ["a=x", "a=y"], ["a=x", "b=x"], []]
    )
    def test_wrong_command_lines(self, arguments, capsys):
        with pytest.raises(SystemExit) as ended:
            cut.main(arguments)
        assert ended.value.code == 2

    def test_no_such_file(self, tmp_path, run):
        assert "No such file" in run(f"a={tmp_path}/none", status=16)


class TestTolerant:
    """``--tolerant``: the same, from the files' ends alone."""

    def test_the_same_as_without(self, files, run):
        files.commit("c")
        clean = run(*files.arguments())["tolerant"]
        assert run(*files.arguments(), "--tolerant") == {
            "tolerant": clean,
            "half_commits": [],
        }
        files.commit("a", meant="a b")
        assert run(*files.arguments(), "--tolerant")["tolerant"] == clean
        files.commit("a b")
        found = run(*files.arguments())
        del found["strict"], found["unstamped"]
        assert run(*files.arguments(), "--tolerant") == found

    def test_of_a_part(self, files, run):
        files.commit("a", meant="a b")
        some = [each for each in files.arguments() if not each.startswith("c=")]
        assert "error:" in run(*some, "--tolerant", status=12)
        found = run(*some, "--partial")
        assert run(*some, "--partial", "--tolerant")["tolerant"] == found["tolerant"]

    def test_for_people(self, files, capsys):
        files.commit("a", meant="a b")
        files.commit("a b")
        assert cut.main([*files.arguments(), "--tolerant"]) == 0
        output, errors = capsys.readouterr()
        assert "tolerant" in output and "strict" not in output
        assert "never will be to b" in errors

    def test_packed_files(self, files, run):
        """A pack matters only where what it left would have to be read."""
        kept = keep_point(files)
        time.sleep(0.02)  # FileStorage packs what is older than now
        files.pack("b")
        for path in files.paths.values():
            point_path(path).unlink()
        error = run(*files.arguments(), "--tolerant", status=13)
        assert "was packed up to" in error
        write_beside(kept, files.paths.values())
        files.commit("a", meant="a b")
        found = run(*files.arguments())
        assert run(*files.arguments(), "--tolerant")["tolerant"] == found["tolerant"]
        for path in files.paths.values():
            point_path(path).unlink()
        for _ in range(4):
            files.commit("a b c")
        whole = as_json(files)
        run(*files.arguments(), status=13)
        files.commit("a", meant="a b")
        assert run(*files.arguments(), "--tolerant")["tolerant"] == whole

    def test_file_that_ends_before_the_floor(self, files, run):
        content = files.paths["b"].read_bytes()
        files.commit("a b")
        keep_point(files)
        files.close()
        files.paths["b"].write_bytes(content)
        error = run(*files.arguments(), "--tolerant", status=10)
        assert "ends before the floor" in error


class TestFloor:
    def test_packed_files_need_one(self, files, run):
        """Without, a pack makes whole transactions look torn."""
        files.pack("b")
        assert "packed" in run(*files.arguments(), status=13)
        keep_point(files)
        files.commit("a b")
        files.commit("b", meant="a b")
        found = run(*files.arguments())
        assert found["unstamped"] == dict.fromkeys("abc", 0)
        assert found["strict"]["a"]["tid"] == tid.to_text(files.last("a"))
        assert int(found["strict"]["b"]["tid"], 16) < files.last("b")

    def test_packed_above_it(self, files, run, tmp_path):
        keep_point(files)
        for _ in range(3):
            files.commit("a b")
        time.sleep(0.02)  # FileStorage packs what is older than now
        files.pack("b")
        assert "packed above the floor" in run(*files.arguments(), status=13)

    def test_the_oldest_point_beside_the_files(self, files, capsys):
        old = keep_point(files)
        files.commit("a b")
        new = Point(files.vector(), clock.now(), "barrier")
        write_beside(new, [files.paths["a"]])
        assert cut.main([*files.arguments(), "--json"]) == 0
        assert old.id in capsys.readouterr().err
        point_path(files.paths["c"]).unlink()
        assert cut.main([*files.arguments(), "--json"]) == 0
        assert "from their start" in capsys.readouterr().err

    def test_a_storage_that_was_added_since(self, run, capsys, tmp_path):
        """The point beside the others counts, and all of the new one is examined."""
        files = TornFiles(tmp_path / "grown", "a b c")
        files.commit("a b")
        old = keep_point_of(files, "a b")
        time.sleep(0.02)  # FileStorage packs what is older than now
        files.pack("a")
        files.commit("a b c")
        kept = files.vector()
        sizes = {each: files.size(each) for each in "abc"}
        files.commit("c", meant="b c")
        found = run(*files.arguments())
        for storage in "abc":
            assert found["strict"][storage] == {
                "tid": tid.to_text(kept[storage]),
                "position": sizes[storage],
            }
        assert cut.main(files.arguments()) == 0
        error = capsys.readouterr().err
        assert f"point {old.id} beside the files; from their start: c" in error
        files.close()
        assert restore_files.main(files.arguments()) == 0
        assert {
            each: path.stat().st_size for each, path in files.paths.items()
        } == sizes
        assert read_point(point_path(files.paths["c"])).vector == kept

    def test_a_storage_that_was_there_before(self, files, run):
        """Taken out of the description when the point was taken, and back since."""
        keep_point_of(files, "a b")
        error = run(*files.arguments(), status=FloorNeeded.exit_status)
        assert "storage c is not in the floor, and its transaction" in error

    def test_given(self, files, run, tmp_path):
        """As a point and as a TID log: what is torn below is trusted."""
        half = files.commit("a", meant="a b")
        files.commit("a b")
        assert run(*files.arguments())["half_commits"][0]["commit"] == half.hex()
        kept = Point(files.vector(), clock.now(), "barrier")
        (tmp_path / "floor").write_text(json.dumps(kept.to_json()))
        (tmp_path / "log").write_text(f"1.00 f {files.vector()!r}\n2.00 d {{'a'")
        files.commit("c")
        for name in ("floor", "log"):
            found = run(*files.arguments(), "--floor", str(tmp_path / name))
            assert found["half_commits"] == []
            assert found["strict"] == as_json(files)
        (tmp_path / "other").write_text("neither\n")
        assert "neither" in run(
            *files.arguments(), "--floor", str(tmp_path / "other"), status=16
        )

    def test_file_that_ends_before_it(self, files, run):
        """An older copy: whatever is above the floor would refer into nothing."""
        content = files.paths["b"].read_bytes()
        files.commit("a b")
        keep_point(files)
        files.commit("a")
        files.close()
        files.paths["b"].write_bytes(content)
        assert "ends before the floor" in run(*files.arguments(), status=10)


@contextlib.contextmanager
def writer(seed, servers, **options):
    where = {each: server.address for server in servers for each in server.storages}
    with subprocess.Popen(
        [
            sys.executable,
            WRITER,
            json.dumps({"seed": seed, "storages": where, **options}),
        ],
        stdout=subprocess.PIPE,
        env=child.environment(),
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


class TestLive:
    def test_while_clients_commit(self, tmp_path):
        """Every cut of files that are being written is coherent."""
        with (
            zeo_server(tmp_path / "1", ["a", "b"], "alpha") as alpha,
            zeo_server(tmp_path / "2", ["c"], "beta") as beta,
        ):
            paths = {
                each: server.data_file(each)
                for server in (alpha, beta)
                for each in server.storages
            }
            cuts = []
            with writer(1, [alpha, beta]), writer(2, [alpha, beta]):

                def cut_again():
                    found = cut_files(paths, {}, aliases={})
                    assert not found.half_commits
                    cuts.append({k: v.tid for k, v in found.strict.items()})
                    ends = cut_from_the_ends(paths, {}, aliases={})
                    assert not ends.half_commits
                    cuts.append({k: v.tid for k, v in ends.tolerant.items()})
                    return len({tuple(each.values()) for each in cuts}) >= 20

                wait_until(cut_again, "files that grow")
            alpha.stop()
            beta.stop()
        held = {each: records.read(path) for each, path in paths.items()}
        torn = [records.violations(held, each) for each in cuts]
        assert not any(torn), torn
        ends = [{k: v[-1][0] for k, v in held.items()}, *cuts[1:]]
        assert all(ends[0][k] >= v for each in cuts for k, v in each.items())

    def test_server_killed_amid_a_vote(self, tmp_path, run):
        """What it leaves is no transaction, for us and for its next start."""
        with zeo_server(tmp_path, ["a"]) as server:
            client = ClientStorage(server.address, storage="a", wait_timeout=PATIENCE)
            self.store(client, b"kept", finish=True)
            kept = filestorage.last_tid(server.data_file("a"))
            size = server.data_file("a").stat().st_size
            self.store(client, b"voted" * 10_000, finish=False)
            server.signal(signal.SIGKILL)
            client.close()
        path = server.data_file("a")
        assert path.stat().st_size > size
        found = run(f"a={path}")
        assert found["strict"]["a"] == {"tid": tid.to_text(kept), "position": size}
        assert filestorage.truncate(path, kept) == size
        with zeo_server(tmp_path, ["a"]) as server:
            client = ClientStorage(server.address, storage="a", wait_timeout=PATIENCE)
            assert tid.from_bytes(client.lastTransaction()) == kept
            client.close()

    def test_vote_that_a_restart_cut_off(self, tmp_path, run):
        """Its TID was seen by all that follows, and no file has it."""
        with (
            zeo_server(tmp_path / "1", ["a"], "alpha") as alpha,
            zeo_server(tmp_path / "2", ["b"], "beta") as beta,
        ):
            with writer(1, [alpha, beta], count=3, group=["a"]) as process:
                assert process.wait(PATIENCE) == 0
            client = ClientStorage(alpha.address, storage="a", wait_timeout=PATIENCE)
            self.store(client, b"voted", finish=False)
            alpha.kill()
            client.close()
            kept = filestorage.last_tid(alpha.data_file("a"))
            alpha.start()
            # All it does in b has the vote's TID in its vector.
            with writer(2, [alpha, beta], count=5, group=["b"]) as process:
                assert process.wait(PATIENCE) == 0
        files = {"a": alpha.data_file("a"), "b": beta.data_file("b")}
        arguments = [f"{each}={path}" for each, path in files.items()]
        last = [*filestorage.read_records(files["b"])][-1]
        assert last.stamp.vector["a"] > kept + 1
        found = run(*arguments)
        assert found["strict"]["b"]["tid"] == tid.to_text(last.tid)
        assert found["strict"]["a"]["tid"] == tid.to_text(kept)
        assert found["unstamped"] == {"a": 1, "b": 1}
        ends = run(*arguments, "--tolerant")
        assert ends["tolerant"] == found["tolerant"]
        # Without the remains it cannot be told from something that is lost.
        (remains,) = files["a"].parent.glob("a.fs.tr*")
        content = remains.read_bytes()
        for wrong in (content[:30], content[:16] + b" " + content[17:], b""):
            remains.write_bytes(wrong)
            assert run(*arguments)["strict"]["b"]["position"] < last.position
        # Nor does it count where transactions before it are lost.
        remains.write_bytes(content)
        *_, before = filestorage.read_records(files["a"], until=kept - 1)
        filestorage.truncate(files["a"], before.tid)
        assert run(*arguments)["strict"]["b"]["position"] < last.position

    @staticmethod
    def store(client, data, finish):
        transaction = TransactionMetaData()
        client.tpc_begin(transaction)
        client.store(client.new_oid(), b"\0" * 8, data, "", transaction)
        client.tpc_vote(transaction)
        if finish:
            client.tpc_finish(transaction)
