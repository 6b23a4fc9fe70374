"""``tidstorage_repozo`` of TIDStorage 5: backups, and what is cleaned up."""

import os
import sys
import time

import pytest
from legacy_files import begun, call, runner
from legacy_site import status_files

from tidstorage.commands.scripts import legacy_repozo, repozo
from tidstorage.legacy import cleanup
from tidstorage.legacy import site as sites
from tidstorage.operation import lock
from tidstorage.points import tid_log

pytestmark = pytest.mark.integration
STOCK = f"{sys.executable} -m ZODB.scripts.repozo"


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
def run(request, capsys):
    names = {"site", "three"}.intersection(request.fixturenames)
    return runner(request.getfixturevalue(names.pop()), capsys)


@pytest.fixture
def three(three_fulls, tmp_path):
    made = three_fulls.copy(tmp_path / "site")
    yield made
    made.files.close()


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
        assert site.files.last_tids() == vector

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
            assert "waited 0.2 s for it" in run("--wait", "0.2", status=7)

    def test_dry_run(self, site, run):
        site.publish()
        before = site.everything()
        assert run("--dry-run").count("would be saved") == 3
        assert site.everything() == before


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
        expected = three.files.last_tids()
        run("-R", "-t", status_files(three.folder)[-1])
        assert three.files.last_tids() == expected
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
        expected = site.files.last_tids()
        run("-R", "-t", site.status_file)
        assert site.files.last_tids() == expected

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
