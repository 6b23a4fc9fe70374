"""The TID log: the original's format, crashes, and what a full disk leaves."""

import os

import pytest

from tidstorage.errors import FileUnreadable, Locked
from tidstorage.points import tid_log
from tidstorage.points.tid_log import LogLine, Writer

OLD_ID = '[[["127.0.0.1", 8100]], "root"]'


def test_the_lines_are_those_of_the_original():
    full = LogLine(1190000000.126, True, {OLD_ID: 264452132736, "b": 7})
    line = f"1190000000.13 f {{'{OLD_ID}': 264452132736, 'b': 7}}\n"
    assert tid_log.format_line(full) == line
    assert tid_log.parse_line(line) == LogLine(1190000000.13, True, full.tids)
    assert tid_log.parse_line("12 d {}") == LogLine(12.0, False, {})


def test_integers_of_python_2():
    line = "1.50 f {\"1L, 2L\": 12L, u'b': 3L, 'it\\'s 4L': 5}"
    assert tid_log.parse_line(line).tids == {"1L, 2L": 12, "b": 3, "it's 4L": 5}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "f {'a': 1}",
        "1.00 x {'a': 1}",
        "1.00 f ['a']",
        "1.00 f {'a': 1",
        "1.00 f {'a': 'b'}",
        "1.00 f {1: 2}",
        "1.00 f {'a': -1}",
        "1.00 f {'a': True}",
        "1.00 f {'a': __import__('os').getpid()}",
        "1.00 f {'a': 1}{'b': 2}",
    ],
)
def test_what_is_no_line(line):
    with pytest.raises(ValueError):
        tid_log.parse_line(line)


def test_a_former_state_and_the_last_one(tmp_path):
    path = tmp_path / "tidlog"
    path.write_text(
        "10.00 f {'a': 1, 'b': 1}\n\n20.00 d {'a': 2}\n30.00 d {'b': 3}\n"
        "40.00 f {'a': 4, 'b': 3}\n50.00 d {'b': 5"
    )
    assert tid_log.read_last(path) == {"a": 4, "b": 3}
    assert [(each.time, each.vector) for each in tid_log.read_all(path)] == [
        (10, {"a": 1, "b": 1}),
        (20, {"a": 2, "b": 1}),
        (30, {"a": 2, "b": 3}),
        (40, {"a": 4, "b": 3}),
    ]


def test_after_a_lost_line_differences_mean_nothing(tmp_path):
    path = tmp_path / "tidlog"
    path.write_text(
        "5.00 d {'a': 9}\n10.00 f {'a': 1, 'b': 1}\n15.00 d {'a': 21.00 d {'b': 3}\n"
        "30.00 d {'b': 4}\n"
    )
    assert tid_log.read_last(path) == {"a": 1, "b": 1}
    with path.open("a") as log:
        log.write("40.00 f {'a': 5, 'b': 5}\n50.00 d {'b': 6}\n")
    assert tid_log.read_last(path) == {"a": 5, "b": 6}


def test_only_the_end_of_a_long_log_is_read(tmp_path, monkeypatch):
    path = tmp_path / "tidlog"
    with path.open("w") as log:
        log.write("1.00 f {'a': 1, 'c': 1}\n")
        for number in range(2, 30_000):
            kind = "f" if number == 20_000 else "d"
            log.write(f"{number}.00 {kind} {{'a': {number}, 'b': {number}}}\n")
    assert tid_log.read_last(path) == {"a": 29_999, "b": 29_999}
    monkeypatch.setattr(tid_log, "_FIRST_WINDOW", 16)
    assert tid_log.read_last(path) == {"a": 29_999, "b": 29_999}


def test_no_log_and_an_empty_one(tmp_path):
    path = tmp_path / "tidlog"
    with pytest.raises(FileUnreadable, match="tidlog"):
        tid_log.read_last(path)
    path.touch()
    assert tid_log.read_last(path) == {}


def test_full_lines_and_differences(tmp_path):
    path = tmp_path / "tidlog"
    writer = Writer(path, full_dump_period=100)
    assert writer.write({"a": 1, "b": 1}, 1000)
    assert not writer.write({"a": 1, "b": 1}, 1001)
    assert writer.write({"a": 2, "b": 1}, 1002)
    assert writer.write({"a": 2, "b": 3}, 1099)
    assert writer.write({"a": 4, "b": 3}, 1100)
    assert path.read_text() == (
        "1000.00 f {'a': 1, 'b': 1}\n1002.00 d {'a': 2}\n1099.00 d {'b': 3}\n"
        "1100.00 f {'a': 4, 'b': 3}\n"
    )


def test_the_burst_period_tells_when_the_next_line_is_due(tmp_path):
    writer = Writer(tmp_path / "tidlog", burst_period=30)
    assert writer.due(1000) == 0
    writer.write({"a": 1}, 1000)
    assert writer.due(1000) == 30
    assert writer.due(1020) == 10
    assert writer.due(1030) == 0
    # A clock that was set back does not stop the log.
    assert writer.due(500) == 0


def test_a_torn_last_line_is_cut_off_and_a_full_line_follows(tmp_path):
    path = tmp_path / "tidlog"
    path.write_text("10.00 f {'a': 1, 'b': 1}\n20.00 d {'a': 2")
    writer = Writer(path)
    assert path.read_text() == "10.00 f {'a': 1, 'b': 1}\n"
    writer.write({"a": 1, "b": 2}, 30)
    assert path.read_text().splitlines()[1:] == ["30.00 f {'a': 1, 'b': 2}"]


def test_a_log_that_is_nothing_but_a_torn_line(tmp_path):
    path = tmp_path / "tidlog"
    path.write_text("10.00 f {" + "'a': 1, " * 2000)
    Writer(path)
    assert path.read_text() == ""


def test_a_rotated_log_starts_with_a_full_line(tmp_path):
    path = tmp_path / "tidlog"
    writer = Writer(path)
    writer.write({"a": 1, "b": 1}, 10)
    path.rename(tmp_path / "tidlog.1")
    writer.reopen({"a": 1, "b": 1}, 20)
    writer.write({"a": 2, "b": 1}, 30)
    assert path.read_text() == "20.00 f {'a': 1, 'b': 1}\n30.00 d {'a': 2}\n"


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "tidlog"
    writer = Writer(path)
    writer.write({"a": 1, "b": 1}, 10)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patches:
        patches.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            writer.write({"a": 2, "b": 1}, 20)
    assert path.read_text() == "10.00 f {'a': 1, 'b': 1}\n"
    writer.write({"a": 2, "b": 1}, 30)
    assert path.read_text().endswith("30.00 f {'a': 2, 'b': 1}\n")


def test_two_writers_never_share_a_log(tmp_path):
    path = tmp_path / "tidlog"
    first = Writer(path)
    with pytest.raises(Locked, match=str(path)):
        Writer(path)
    first.write({"a": 1}, 10)
    first.reopen({"a": 1}, 20)
    first.close()
    second = Writer(path)
    second.write({"a": 2}, 30)
    assert [state.time for state in tid_log.read_all(path)] == [10, 20, 30]


def test_a_log_that_cannot_be_reopened_goes_on_in_the_old_file(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = Writer(folder / "tidlog")
    writer.write({"a": 1}, 10)
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        writer.reopen({"a": 1}, 20)
    writer.write({"a": 2}, 30)
    assert tid_log.read_last(moved / "tidlog") == {"a": 2}


def test_times_never_go_back_though_the_clock_does(tmp_path):
    path = tmp_path / "tidlog"
    writer = Writer(path)
    writer.write({"a": 1}, 1000)
    writer.write({"a": 2}, 400)
    writer.close()
    writer = Writer(path)
    writer.write({"a": 3}, 500)
    writer.write({"a": 4}, 1001)
    times = [state.time for state in tid_log.read_all(path)]
    assert times == [1000, 1000, 1000, 1001]


def test_a_vector_that_changes_later_is_written_as_it_was(tmp_path):
    writer = Writer(tmp_path / "tidlog")
    vector = {"a": 1}
    writer.write(vector, 10)
    vector["a"] = 2
    assert writer.write(vector, 20)
    assert tid_log.read_last(tmp_path / "tidlog") == {"a": 2}
