"""Judging and tidying a repozo repository, without repozo."""

import lagging_clock
import pytest

from tidstorage.errors import ClockWentBack, EngineFailed
from tidstorage.sets import repozo

FULL = "2026-11-24-10-00-00.fs"
DELTA = "2026-11-24-11-00-00.deltafs"
LATER = "2026-11-24-12-00-00.deltafs"
OLD = "2026-11-20-10-00-00.fsz"


@pytest.fixture
def folder(tmp_path):
    for name in (FULL, DELTA, LATER, OLD):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / name).with_suffix(".index").write_bytes(b"i")
    write_record(tmp_path, FULL, [(FULL, 0, 10), (DELTA, 10, 15), (LATER, 15, 21)])
    write_record(tmp_path, OLD, [(OLD, 0, 7)])
    return tmp_path


def write_record(folder, full, lines):
    text = "".join(f"/some where/{n} {a} {b} 0123abc\n" for n, a, b in lines)
    (folder / full).with_suffix(".dat").write_text(text)


def names(folder):
    return {each.name for each in folder.iterdir()}


def test_the_newest_chain_is_what_repozo_wrote_down(folder):
    parts = repozo.read_newest_chain(folder)
    assert [(each.name, each.start, each.end) for each in parts] == [
        (FULL, 0, 10),
        (DELTA, 10, 15),
        (LATER, 15, 21),
    ]
    assert [each.is_full for each in parts] == [True, False, False]


def test_an_empty_repository_has_none(tmp_path):
    assert repozo.read_newest_chain(tmp_path) == ()
    assert repozo.find_newest_second(tmp_path) == ""


def test_the_newest_second_is_that_of_any_file(folder):
    assert repozo.find_newest_second(folder) == "2026-11-24-12-00-00"


@pytest.mark.parametrize(
    "lines",
    [
        [(FULL, 0, 10), (LATER, 15, 21)],
        [(DELTA, 10, 15)],
        [(FULL, 0, 10), ("2026-11-24-11-30-00.deltafs", 10, 12)],
    ],
    ids=["gap", "no start", "no file"],
)
def test_a_chain_with_a_gap_is_an_error(folder, lines):
    write_record(folder, FULL, lines)
    with pytest.raises(EngineFailed, match="names"):
        repozo.read_newest_chain(folder)


@pytest.mark.parametrize("text", [None, "nonsense\n", f"./{FULL} x y z\n"])
def test_an_unreadable_record_is_an_error(folder, text):
    record = (folder / FULL).with_suffix(".dat")
    record.unlink() if text is None else record.write_text(text)
    with pytest.raises(EngineFailed, match="not readable"):
        repozo.read_newest_chain(folder)


def test_discard_forgets_a_file_and_all_behind_it(folder):
    (folder / repozo.TEMPORARY).write_bytes(b"half a file")
    removed = repozo.discard(folder, {FULL, OLD})
    assert removed == [DELTA, LATER]
    assert [each.name for each in repozo.read_newest_chain(folder)] == [FULL]
    stems = {"2026-11-24-10-00-00", "2026-11-20-10-00-00"}
    assert names(folder) == {FULL, OLD} | {
        f"{stem}.{kind}" for stem in stems for kind in ("dat", "index")
    }


def test_discard_of_a_whole_chain_leaves_the_former_one(folder):
    repozo.discard(folder, {OLD})
    assert [each.name for each in repozo.read_newest_chain(folder)] == [OLD]
    assert repozo.read_newest_chain(folder)[0].is_compressed


def test_discard_of_nothing_changes_nothing(folder):
    before = {each: each.stat().st_mtime_ns for each in folder.iterdir()}
    assert repozo.discard(folder, {FULL, DELTA, LATER, OLD}) == []
    assert {each: each.stat().st_mtime_ns for each in folder.iterdir()} == before


def test_a_later_second_is_one_of_the_clock_that_names_files(monkeypatch):
    lagging_clock.install(monkeypatch)
    latest = lagging_clock.await_part_of_second(0.0)
    awaited = repozo.await_second_after(latest, "")
    assert latest < awaited <= repozo.current_second()


def test_without_any_backup_nothing_is_awaited():
    before = repozo.current_second()
    assert before <= repozo.await_second_after("", "") <= repozo.current_second()


def test_a_clock_that_went_back_is_not_awaited(monkeypatch):
    monkeypatch.setattr(repozo, "_CLOCK_TOLERANCE", 0.1)
    with pytest.raises(ClockWentBack, match="there is a backup of 2999-") as caught:
        repozo.await_second_after("2999-01-01-00-00-00", "Correct the clock.")
    assert caught.value.hint == "Correct the clock."
