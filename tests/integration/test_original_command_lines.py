"""The original's command lines, one by one, on files that nobody serves."""

import os
import shutil
import sys
import time

import pytest
from original_site import status_files, write_configuration
from torn_files import TornFiles
from ZODB.FileStorage import FileStorage

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.commands.scripts import legacy_repozo, repozo, restore_files
from tidstorage.engines import filestorage
from tidstorage.legacy import cleanup, configuration
from tidstorage.legacy import site as sites
from tidstorage.operation import lock
from tidstorage.points import tid_log
from tidstorage.points.beside import point_path, read_point
from tidstorage.system.clock import now
from tidstorage.verbs.restore import swap
from tidstorage.verbs.restore.swap import Swap

pytestmark = pytest.mark.integration
STOCK = f"{sys.executable} -m ZODB.scripts.repozo"


class Site:
    """Three storages; what the daemon would publish is written by hand.

    covered, sizes: what the last backup's TID log covers; status: that log.
    """

    covered = sizes = None

    def __init__(self, folder):
        self.folder = folder
        self.files = TornFiles(folder / "files", "a b c")
        self.path = folder / "tidstorage.py"
        self.status_file = folder / "tidstorage.tid"
        addresses = dict.fromkeys(self.files.paths, ("127.0.0.1", 8100))
        self.ids = write_configuration(self.path, self.files.paths, addresses)

    def copy(self, folder):
        """The same site somewhere else, its files open; this one's are closed."""
        shutil.copytree(self.folder, folder)
        made = Site(folder)
        made.covered, made.sizes = self.covered, self.sizes
        return made

    @property
    def status(self):
        return status_files(self.folder)[-1]

    @property
    def found(self):
        return sites.read_site(configuration.load(self.path))

    def publish(self):
        """Write the present state into the TID log; the vector."""
        vector = self.files.vector()
        log = tid_log.Writer(self.status_file)
        log.write({self.ids[each]: last for each, last in vector.items()}, time.time())
        log.close()
        return vector

    def contents(self):
        return {each: path.read_bytes() for each, path in self.files.paths.items()}

    def last_tids(self):
        return {
            each: filestorage.last_tid(path) for each, path in self.files.paths.items()
        }

    def repository(self, storage):
        return self.folder / "repozo" / storage

    def everything(self):
        """{path: bytes} of all that is in the folder."""
        return {
            path: path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.suffix != ".lock"
        }


def begun(folder):
    made = Site(folder)
    for written in ("a b c", "a", "b c"):
        made.files.commit(written)
    return made


def call(site, *arguments):
    assert repozo.main(["-c", str(site.path), *arguments]) == 0


@pytest.fixture(scope="module")
def two_backups(tmp_path_factory):
    """The second copies hold more than its TID log covers."""
    made = begun(tmp_path_factory.mktemp("two"))
    made.publish()
    call(made, "-z")
    made.files.commit("a b")
    made.covered = made.publish()
    made.sizes = {each: made.files.size(each) for each in made.files.paths}
    made.files.commit("a", meant="a b")
    call(made, "-z")
    made.files.commit("c")
    made.files.close()
    return made


@pytest.fixture(scope="module")
def three_fulls(tmp_path_factory):
    """Three full backups, an increment behind the first and the third."""
    made = begun(tmp_path_factory.mktemp("three"))
    for more in (["--full"], [], ["--full"], ["--full"], ["--quick"]):
        made.files.commit("a b c")
        made.publish()
        call(made, *more)
    made.files.close()
    return made


@pytest.fixture
def site(tmp_path):
    made = begun(tmp_path)
    yield made
    made.files.close()


@pytest.fixture
def backed_up(two_backups, tmp_path):
    made = two_backups.copy(tmp_path / "site")
    yield made
    made.files.close()


@pytest.fixture
def three(three_fulls, tmp_path):
    made = three_fulls.copy(tmp_path / "site")
    yield made
    made.files.close()


@pytest.fixture
def run(request, capsys):
    names = {"site", "backed_up", "three"}.intersection(request.fixturenames)
    site = request.getfixturevalue(names.pop())

    def run(*arguments, status=0, main=repozo.main):
        given = ["-c", str(site.path), *map(str, arguments)]
        assert main(given) == status, capsys.readouterr()
        return "".join(capsys.readouterr())

    return run


class TestBackUp:
    def test_each_storage_in_its_own_repository(self, site, run):
        site.publish()
        assert run("--repozo", STOCK, "--gzip", "--quick") == ""
        site.files.commit("a")
        site.publish()
        assert "Saved 3 FileStorages out of 3" in run("-zQv")
        names = {
            each: sorted(path.suffix for path in site.repository(each).iterdir())
            for each in site.files.paths
        }
        assert names["a"] == [".dat", ".deltafsz", ".fsz", ".index"]
        assert names["b"] == [".dat", ".fsz", ".index"]
        first, second = sites.read_timestamps(site.found)
        assert first < second
        assert len(status_files(site.folder)) == 2

    def test_the_log_is_kept_up_to_its_last_whole_line(self, site, run):
        site.publish()
        with site.status_file.open("a") as log:
            log.write("1795000000.00 d {'torn")
        run()
        (kept,) = status_files(site.folder)
        assert (
            kept.read_text() == site.status_file.read_text().rpartition("\n")[0] + "\n"
        )

    def test_full(self, site, run):
        site.publish()
        run("--full")
        run("--full")
        for each in site.files.paths:
            assert len([*site.repository(each).glob("*.fs")]) == 2

    def test_without_a_tid_log_nothing_is_begun(self, site, run):
        assert "No such file" in run(status=16)
        assert not sites.read_timestamps(site.found)

    def test_a_point_without_a_storage_is_told(self, site, run, caplog):
        log = tid_log.Writer(site.status_file)
        log.write({site.ids["a"]: site.files.last("a")}, time.time())
        log.close()
        run()
        assert site.ids["b"] in caplog.text and site.ids["c"] in caplog.text

    def test_one_that_fails_is_named_and_the_others_are_saved(self, site, run):
        site.publish()
        site.files.close()
        site.files.paths["a"].rename(site.folder / "gone.fs")
        said = run(status=15)
        assert "1 of 3" in said and site.ids["a"] in said
        assert len([*site.repository("b").glob("*.fs")]) == 1
        assert len([*site.repository("c").glob("*.fs")]) == 1
        assert not sites.read_timestamps(site.found)
        assert "no backup that succeeded" in run("-R", status=9)

    def test_a_copy_that_does_not_reach_the_point_is_no_backup(self, site, run):
        vector = {**site.files.vector(), "b": site.files.last("b") + 1000}
        log = tid_log.Writer(site.status_file)
        log.write({site.ids[each]: last for each, last in vector.items()}, time.time())
        log.close()
        site.files.pack("a")
        run()
        site.status_file.unlink()
        older = {**site.files.vector(), "a": site.files.last("a") - 1}
        log = tid_log.Writer(site.status_file)
        log.write({site.ids[each]: last for each, last in older.items()}, time.time())
        log.close()
        assert "packed above the point" in run(status=15)

    def test_what_a_killed_run_left_is_not_built_on(self, site, run, caplog):
        site.publish()
        run()
        site.files.commit("a b c")
        vector = site.publish()
        # repozo wrote the file, and was killed before it noted that.
        (full,) = site.repository("a").glob("*.fs")
        second = sites.await_next_second(site.found)
        full.with_name(f"{second}.deltafs").write_bytes(b"of a killed run")
        run("--quick")
        assert "of a killed run" not in caplog.text and "was killed" in caplog.text
        site.files.close()
        run("-R", "-t", status_files(site.folder)[-1])
        assert site.last_tids() == vector

    def test_a_repozo_that_is_not_there(self, site, run):
        site.publish()
        said = run("--repozo", "/nowhere/repozo.py", status=15)
        assert "/nowhere/repozo.py cannot be run" in said

    def test_arguments_for_repozo(self, site, run):
        site.publish()
        run()
        run("--full", "--", "--kill-old-on-full")
        for each in site.files.paths:
            assert len([*site.repository(each).glob("*.fs")]) == 1

    def test_two_at_once(self, site, run):
        site.publish()
        with lock.hold_file(site.found.lock_file, "tidstorage_repozo"):
            assert f"process {os.getpid()}" in run(status=7)
            assert "We waited 0.2 s" in run("--wait", "0.2", status=7)

    def test_dry_run(self, site, run):
        site.publish()
        before = site.everything()
        assert run("--dry-run").count("would be saved") == 3
        assert site.everything() == before


class TestRecover:
    def test_cut_at_the_point_byte_for_byte(self, backed_up, run):
        backed_up.files.close()
        before = backed_up.contents()
        said = run("-R", "-t", backed_up.status)
        assert said.count("was restored") == 3 and "every Zope" in said
        for each, size in backed_up.sizes.items():
            assert backed_up.contents()[each] == before[each][:size]
            kept = [*(backed_up.folder / "files").glob(f"{each}.fs.before-restore-*Z")]
            assert [path.read_bytes() for path in kept] == [before[each]]
        new = read_point(point_path(backed_up.files.paths["a"]))
        assert new.source == "restore"
        assert new.vector == {
            backed_up.ids[each]: last for each, last in backed_up.covered.items()
        }

    def test_without_a_log_the_copies_stay_whole(self, backed_up, run):
        backed_up.files.close()
        before = backed_up.contents()
        assert "in one file and not in another" in run("--recover")
        after = backed_up.contents()
        assert before["a"] == after["a"] and before["b"] == after["b"]
        assert before["c"] != after["c"]
        assert read_point(point_path(backed_up.files.paths["a"])).vector == {}

    def test_of_stock_repozos_own_repository(self, site, run):
        """Nothing but stock repozo wrote, at a time that a file tells."""
        vector = site.publish()
        for each in site.files.paths:
            site.repository(each).mkdir(parents=True)
            command = f"{STOCK} -B -F -r {site.repository(each)}"
            assert os.system(f"{command} -f {site.files.paths[each]}") == 0
        sites.note_success(site.found)
        site.files.close()
        before = site.contents()
        for path in site.files.paths.values():
            path.unlink()
        run("-R", "-t", site.status_file)
        assert site.contents() == before and site.last_tids() == vector

    def test_a_later_run_that_failed_is_passed_over(self, backed_up, run):
        backed_up.files.close()
        second = sites.await_next_second(backed_up.found)
        for each in backed_up.files.paths:
            name = f"{second}.deltafsz"
            (backed_up.repository(each) / name).write_bytes(b"no gzip")
        run("-R", "-t", backed_up.status)
        assert backed_up.last_tids() == backed_up.covered

    def test_no_server_may_have_a_file(self, backed_up, run):
        before = backed_up.everything()
        assert "is open in another process" in run("-R", status=5)
        backed_up.files.close()
        opened = FileStorage(str(backed_up.files.paths["b"]))
        assert "is open in another process" in run("-R", status=5)
        opened.close()
        assert {k: v for k, v in before.items() if k.suffix == ".fs"} == {
            k: v for k, v in backed_up.everything().items() if k.suffix == ".fs"
        }

    @pytest.mark.parametrize("damage", ["cut off", "other bytes", "gone"])
    def test_a_damaged_copy_changes_nothing(self, site, run, damage):
        site.publish()
        run()
        site.files.close()
        before = site.contents()
        (copy,) = site.repository("c").glob("*.fs")
        data = copy.read_bytes()
        if damage == "cut off":
            copy.write_bytes(data[:-1])
        elif damage == "other bytes":
            # In a commit id that the root object holds.
            position = data.rindex(b"commit") + 12
            changed = bytes([data[position] ^ 1])
            copy.write_bytes(data[:position] + changed + data[position + 1 :])
        else:
            copy.unlink()
        run("-R", "-t", site.status_file, status=15 if damage == "gone" else 10)
        assert site.contents() == before
        assert not [*(site.folder / "files").glob("*.restoring*")]

    def test_a_log_of_later_than_the_copies(self, backed_up, run):
        backed_up.files.commit("a b c")
        backed_up.publish()
        backed_up.files.close()
        before = backed_up.contents()
        assert "ends before the TID log's point" in run(
            "-R", "-t", backed_up.status_file, status=10
        )
        assert backed_up.contents() == before

    def test_a_log_of_other_storages(self, backed_up, run, tmp_path):
        backed_up.files.close()
        log = tmp_path / "other"
        log.write_text("1795000000.00 f {'x': 1}\n")
        assert "lacks storage" in run("-R", "-t", log, status=10)

    def test_dry_run(self, backed_up, run):
        before = backed_up.everything()
        said = run("-R", "-t", backed_up.status, "--dry-run")
        assert said.count("would be restored") == 3
        assert tid.to_text(backed_up.covered["a"]) in said
        assert backed_up.everything() == before

    def test_dry_run_of_one_that_stopped_amid_its_swap(self, backed_up, run):
        backed_up.files.close()
        journal = backed_up.found.swap_journal
        paths = [*backed_up.files.paths.values()]
        point = Point({}, now(), "restore")
        swap.write(Swap("2026-11-22-14-05-00", [], point, paths), journal)
        before = backed_up.everything()
        said = run("-R", "-t", backed_up.status, "--dry-run")
        assert "2026-11-22-14-05-00 UTC would be brought to its end" in said
        assert backed_up.everything() == before
        assert "tidstorage_repozo -R" in run(status=19)
        assert "was brought to its end" in run("-R", "-t", backed_up.status)
        assert not journal.exists()


class TestCheck:
    def test_the_beginning_of_the_live_files(self, backed_up, run):
        before = backed_up.everything()
        said = run("--recover_check", "-t", backed_up.status)
        assert said.count("the file begins with the copy") == 3
        assert f"cut the copy at byte {backed_up.sizes['a']:,}" in said
        assert backed_up.everything() == before

    def test_a_byte_that_is_different_is_named(self, backed_up, run):
        with backed_up.files.paths["b"].open("r+b") as stream:
            stream.seek(100)
            byte = stream.read(1)
            stream.seek(100)
            stream.write(bytes([byte[0] ^ 1]))
        said = run("--recover_check", status=10)
        assert "different from byte 100 on" in said and "1 of 3 copies" in said

    def test_a_file_that_was_cut_since(self, backed_up, run):
        backed_up.files.close()
        size = backed_up.sizes["a"]
        os.truncate(backed_up.files.paths["a"], size)
        said = run("--recover_check", status=10)
        assert f"different from byte {size:,}" in said


class TestCutInPlace:
    def test_at_the_point_exactly(self, backed_up, run):
        backed_up.files.close()
        before = backed_up.contents()
        said = run("--recover_inplace", "-t", backed_up.status)
        assert "was cut from" in said
        for each, size in backed_up.sizes.items():
            assert backed_up.contents()[each] == before[each][:size]
            dropped = [
                path.read_bytes()
                for path in (backed_up.folder / "files").glob(f"{each}.fs.dropped-*Z")
            ]
            assert b"".join(dropped) == before[each][size:]

    def test_dry_run(self, backed_up, run):
        backed_up.files.close()
        before = backed_up.everything()
        assert "would be cut" in run(
            "--recover_inplace", "-t", backed_up.status, "--dry-run"
        )
        assert backed_up.everything() == before

    def test_it_needs_a_log(self, backed_up, run, capsys):
        with pytest.raises(SystemExit):
            repozo.main(["-c", str(backed_up.path), "--recover_inplace"])
        assert "needs --tid_log" in capsys.readouterr().err


class TestCleanUp:
    """keep_full_backup_count is 2."""

    def fulls(self, site, storage="a"):
        return sorted(each.stem for each in site.repository(storage).glob("*.fs"))

    def test_keeps_as_many_and_what_depends_on_them(self, three, run):
        first, *kept = self.fulls(three)
        planned = run("--cleanup", "--dry-run")
        assert self.fulls(three) == [first, *kept]
        assert run("--cleanup") == ""
        assert self.fulls(three) == kept
        assert len(status_files(three.folder)) == 3
        for storage in three.files.paths:
            stems = {each.stem for each in three.repository(storage).iterdir()}
            assert min(stems) == self.fulls(three, storage)[0]
            assert f"would be removed: {three.repository(storage)}" in planned
        three.files.close()
        expected = three.last_tids()
        run("-R", "-t", status_files(three.folder)[-1])
        assert three.last_tids() == expected
        assert run("--cleanup", "-v") == ""

    def test_never_the_last_backup_that_succeeded(self, site, run):
        site.publish()
        run()
        (good,) = self.fulls(site)
        # Full copies of runs that were killed before they were noted.
        for _ in range(3):
            second = sites.await_next_second(site.found)
            for each in site.files.paths:
                path = site.repository(each) / f"{second}.fs"
                path.write_bytes(b"of a killed run")
        run("--cleanup")
        assert good in self.fulls(site)
        site.files.close()
        expected = site.last_tids()
        run("-R", "-t", site.status_file)
        assert site.last_tids() == expected

    def test_a_file_of_somebody_else_stays(self, three, run):
        path = three.repository("a") / "2001-01-01-00-00-00.README"
        path.touch()
        run("--cleanup")
        assert path.exists()

    def test_killed_amid_it_the_rest_are_whole_copies(self, three):
        """Of a chain, what is left is a beginning."""
        files = cleanup.find_excess(three.found)
        names = [each.name for each in files if each.parent == three.repository("a")]
        assert names[-1].endswith(".fs") and "deltafs" in names[0]

    def test_how_many_has_to_be_said(self, site, run):
        text = site.path.read_text()
        site.path.write_text(text.replace("keep_full_backup_count = 2\n", ""))
        assert "keep_full_backup_count is missing" in run("--cleanup", status=3)


class TestCrashedFiles:
    """``tidstorage_restore``."""

    def test_stamps_keep_what_fits_above_the_point(self, site, run):
        site.publish()
        site.files.commit("a b")
        whole = site.files.vector()
        site.files.commit("a", meant="a b")
        site.files.close()
        run(main=restore_files.main)
        assert site.last_tids() == whole

    def test_without_stamps_all_above_the_point_goes(self, site, run):
        covered = site.publish()
        site.files.commit("a b", stamped=False)
        site.files.commit("c")
        site.files.close()
        said = run(main=restore_files.main)
        assert "nobody can tell what fits together" in said
        assert site.last_tids() == covered

    def test_half_commits_are_the_operators_choice(self, site, run):
        covered = site.publish()
        site.files.commit("a", meant="a b")
        site.files.commit("a b")
        site.files.close()
        assert "Give --strict or --tolerant" in run(main=restore_files.main, status=11)
        run("--strict", main=restore_files.main)
        assert site.last_tids() == covered

    def test_dry_run(self, site, run):
        site.publish()
        site.files.commit("a", meant="a b")
        site.files.close()
        before = site.everything()
        assert "would be cut" in run("--dry-run", main=restore_files.main)
        assert site.everything() == before

    def test_what_is_missing_in_the_configuration_is_named(self, site, run):
        text = site.path.read_text()
        site.path.write_text(text.replace("data_fs_backup_path_dict", "other"))
        said = run(main=restore_files.main, status=3)
        assert "data_fs_backup_path_dict is missing" in said

    def test_files_are_named_once(self, site, capsys):
        with pytest.raises(SystemExit):
            restore_files.main(["-c", str(site.path), "a=/a.fs"])
        assert "names the files itself" in capsys.readouterr().err


class TestCommandLine:
    @pytest.mark.parametrize(
        "arguments",
        [["-c", "x"], ["-cx"], ["--config", "x"], ["--config=x"], ["-zQc", "x"]],
    )
    def test_is_the_originals(self, arguments):
        assert legacy_repozo.is_meant(arguments)

    @pytest.mark.parametrize(
        "arguments", [[], ["-R", "--set", "x"], ["--cluster-file", "c"], ["-v"]]
    )
    def test_is_the_new_one(self, arguments):
        assert not legacy_repozo.is_meant(arguments)

    def test_a_log_is_for_a_recovery(self, site, capsys):
        for more in ([], ["-R", "--cleanup"]):
            with pytest.raises(SystemExit):
                repozo.main(["-c", str(site.path), "-t", "x", *more])
        assert "for a recovery" in capsys.readouterr().err
