"""Recoveries and cuts by the command lines of TIDStorage 5, from its backups."""

import os
import sys

import pytest
from legacy_files import begun, call, runner
from ZODB.FileStorage import FileStorage

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.commands.scripts import repozo, restore_files
from tidstorage.legacy import site as sites
from tidstorage.points.beside import point_path, read_point
from tidstorage.system.clock import now
from tidstorage.verbs.restore import swap
from tidstorage.verbs.restore.swap import Swap

pytestmark = pytest.mark.integration
STOCK = f"{sys.executable} -m ZODB.scripts.repozo"


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
def run(request, capsys):
    names = {"site", "backed_up"}.intersection(request.fixturenames)
    return runner(request.getfixturevalue(names.pop()), capsys)


class TestRecover:
    def test_cut_at_the_point_byte_for_byte(self, backed_up, run):
        backed_up.files.close()
        before = backed_up.files.contents()
        said = run("-R", "-t", backed_up.status)
        assert said.count("was restored") == 3 and "every Zope" in said
        for each, size in backed_up.sizes.items():
            assert backed_up.files.contents()[each] == before[each][:size]
            kept = [*(backed_up.folder / "files").glob(f"{each}.fs.before-restore-*Z")]
            assert [path.read_bytes() for path in kept] == [before[each]]
        new = read_point(point_path(backed_up.files.paths["a"]))
        assert new.source == "restore"
        assert new.vector == {
            backed_up.ids[each]: last for each, last in backed_up.covered.items()
        }

    def test_without_a_log_the_copies_stay_whole(self, backed_up, run):
        backed_up.files.close()
        before = backed_up.files.contents()
        assert "in one file and not in another" in run("--recover")
        after = backed_up.files.contents()
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
        before = site.files.contents()
        for path in site.files.paths.values():
            path.unlink()
        run("-R", "-t", site.status_file)
        assert site.files.contents() == before and site.files.last_tids() == vector

    def test_a_later_run_that_failed_is_passed_over(self, backed_up, run):
        backed_up.files.close()
        second = sites.await_next_second(backed_up.found)
        for each in backed_up.files.paths:
            name = f"{second}.deltafsz"
            (backed_up.repository(each) / name).write_bytes(b"no gzip")
        run("-R", "-t", backed_up.status)
        assert backed_up.files.last_tids() == backed_up.covered

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
        before = site.files.contents()
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
        assert site.files.contents() == before
        assert not [*(site.folder / "files").glob("*.restoring*")]

    def test_a_log_of_later_than_the_copies(self, backed_up, run):
        backed_up.files.commit("a b c")
        backed_up.publish()
        backed_up.files.close()
        before = backed_up.files.contents()
        assert "ends before the TID log's point" in run(
            "-R", "-t", backed_up.status_file, status=10
        )
        assert backed_up.files.contents() == before

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
        swap.write(Swap(1, "2026-11-22-14-05-00", [], point, paths), journal)
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
        before = backed_up.files.contents()
        said = run("--recover_inplace", "-t", backed_up.status)
        assert "was cut from" in said
        for each, size in backed_up.sizes.items():
            assert backed_up.files.contents()[each] == before[each][:size]
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


class TestCrashedFiles:
    """``tidstorage_restore``."""

    def test_stamps_keep_what_fits_above_the_point(self, site, run):
        site.publish()
        site.files.commit("a b")
        whole = site.files.vector()
        site.files.commit("a", meant="a b")
        site.files.close()
        run(main=restore_files.main)
        assert site.files.last_tids() == whole

    def test_without_stamps_all_above_the_point_goes(self, site, run):
        covered = site.publish()
        site.files.commit("a b", stamped=False)
        site.files.commit("c")
        site.files.close()
        said = run(main=restore_files.main)
        assert "nobody can tell what fits together" in said
        assert site.files.last_tids() == covered

    def test_half_commits_are_the_operators_choice(self, site, run):
        covered = site.publish()
        site.files.commit("a", meant="a b")
        site.files.commit("a b")
        site.files.close()
        assert "Give --strict or --tolerant" in run(main=restore_files.main, status=11)
        run("--strict", main=restore_files.main)
        assert site.files.last_tids() == covered

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
