"""The TID log: the original's format, crashes, and what a full disk leaves."""

import os
import subprocess
import sys

import pytest

from tidstorage import tidlog
from tidstorage.commands import check_log, full_log
from tidstorage.errors import FileUnreadable
from tidstorage.tidlog import Entry, Writer

OLD_ID = '[[["127.0.0.1", 8100]], "root"]'


def test_the_lines_are_those_of_the_original():
    full = Entry(1190000000.126, True, {OLD_ID: 264452132736, "b": 7})
    line = f"1190000000.13 f {{'{OLD_ID}': 264452132736, 'b': 7}}\n"
    assert tidlog.format_entry(full) == line
    assert tidlog.parse_line(line) == Entry(1190000000.13, True, full.tids)
    assert tidlog.parse_line("12 d {}") == Entry(12.0, False, {})


def test_integers_of_python_2():
    line = "1.50 f {\"1L, 2L\": 12L, u'b': 3L, 'it\\'s 4L': 5}"
    assert tidlog.parse_line(line).tids == {"1L, 2L": 12, "b": 3, "it's 4L": 5}


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
        tidlog.parse_line(line)


def test_a_former_state_and_the_last_one(tmp_path):
    path = tmp_path / "tidlog"
    path.write_text(
        "10.00 f {'a': 1, 'b': 1}\n\n20.00 d {'a': 2}\n30.00 d {'b': 3}\n"
        "40.00 f {'a': 4, 'b': 3}\n50.00 d {'b': 5"
    )
    assert tidlog.read_last(path) == {"a": 4, "b": 3}
    assert tidlog.read_at(path, 9.99) == {}
    assert tidlog.read_at(path, 20) == {"a": 2, "b": 1}
    assert tidlog.read_at(path, 39) == {"a": 2, "b": 3}
    assert tidlog.read_at(path, 1e10) == {"a": 4, "b": 3}
    assert [state.time for state in tidlog.read_all(path)] == [10, 20, 30, 40]


def test_after_a_lost_line_differences_mean_nothing(tmp_path):
    path = tmp_path / "tidlog"
    path.write_text(
        "5.00 d {'a': 9}\n10.00 f {'a': 1, 'b': 1}\n15.00 d {'a': 21.00 d {'b': 3}\n"
        "30.00 d {'b': 4}\n"
    )
    assert tidlog.read_last(path) == {"a": 1, "b": 1}
    with path.open("a") as log:
        log.write("40.00 f {'a': 5, 'b': 5}\n50.00 d {'b': 6}\n")
    assert tidlog.read_last(path) == {"a": 5, "b": 6}


def test_only_the_end_of_a_long_log_is_read(tmp_path, monkeypatch):
    path = tmp_path / "tidlog"
    with path.open("w") as log:
        log.write("1.00 f {'a': 1, 'c': 1}\n")
        for number in range(2, 30_000):
            kind = "f" if number == 20_000 else "d"
            log.write(f"{number}.00 {kind} {{'a': {number}, 'b': {number}}}\n")
    assert tidlog.read_last(path) == {"a": 29_999, "b": 29_999}
    monkeypatch.setattr(tidlog, "_FIRST_WINDOW", 16)
    assert tidlog.read_last(path) == {"a": 29_999, "b": 29_999}


def test_no_log_and_an_empty_one(tmp_path):
    path = tmp_path / "tidlog"
    with pytest.raises(FileUnreadable, match="tidlog"):
        tidlog.read_last(path)
    path.touch()
    assert tidlog.read_last(path) == {}


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


def full_of(text: str) -> list[str | None]:
    lines = text.encode().splitlines(keepends=True)
    return [line for _, line in full_log.full_lines(lines)]


def test_full_log_repeats_what_did_not_change():
    log = "1.00 f {'a': 1, 'b': 1L}\n2.00 d {'a': 2L}\n\n3.00 f {'a': 3, 'b': 1}\n"
    assert full_of(log) == [
        "1.00 f {'a': 1, 'b': 1}\n",
        "2.00 f {'a': 2, 'b': 1}\n",
        "3.00 f {'a': 3, 'b': 1}\n",
    ]


def test_full_log_leaves_out_what_means_nothing():
    assert full_of("1.00 d {'a': 1}\nx\n2.00 f {'a': 2}\n3.00 d {'a'") == [
        None,
        None,
        "2.00 f {'a': 2}\n",
    ]


def findings(text: str) -> list[tuple[int, str, bool]]:
    lines = text.encode().splitlines(keepends=True)
    return [(each.line, each.text, each.wrong) for each in check_log.findings(lines)]


def test_check_log_finds_no_fault_with_a_good_log():
    log = "1.00 f {'a': 1}\n\n1.00 d {'b': 1}\n2.00 f {'a': 1, 'b': 2}\n"
    assert findings(log) == []


@pytest.mark.parametrize(
    ("line", "found", "wrong"),
    [
        ("9.00 d {'a': 6}\n", "time goes back", True),
        ("11.00 d {'a': 4}\n", "a goes back, from 5 to 4", True),
        ("11.00 f {'a': 5}\n", "b is no longer there", False),
        ("11.00 d {'a'", "cannot be read; as the last line", False),
        ("rubbish\n12.00 f {'a': 5, 'b': 5}\n", "cannot be read", True),
    ],
)
def test_check_log_names_the_line(line, found, wrong):
    ((number, text, is_wrong),) = findings("10.00 f {'a': 5, 'b': 5}\n" + line)
    assert (number, text[: len(found)], is_wrong) == (2, found, wrong)


def test_check_log_wants_a_full_line_first():
    ((number, text, wrong),) = findings("1.00 d {'a': 1}\n")
    assert number == 1 and "without a full line" in text and wrong


@pytest.mark.parametrize(
    ("log", "status"),
    [(b"1.00 f {'a': 1}\n2.00 d {'a': 2}\n", 0), (b"1.00 d {'a': 1}\n", 10)],
)
@pytest.mark.parametrize("tool", ["check_log", "full_log"])
def test_the_tools_tell_by_their_exit_status(log, status, tool):
    done = subprocess.run(
        [sys.executable, "-m", f"tidstorage.commands.{tool}"],
        input=log,
        capture_output=True,
    )
    assert done.returncode == status
    assert (b"error:" in done.stderr) == bool(status)
