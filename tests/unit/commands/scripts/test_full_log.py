"""`tidstorage-full-log`, on our logs and on those of the original."""

import io
import subprocess
import sys
from pathlib import Path

from real_processes import PATIENCE

from tidstorage.commands.scripts.full_log import read_full_lines
from tidstorage.errors import NotCoherent
from tidstorage.points import tid_log


def fill(text: str) -> list[tuple[int, str | None]]:
    return list(read_full_lines(io.BytesIO(text.encode())))


def script(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidstorage.commands.scripts.full_log"],
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_differences_become_the_full_lines_they_stand_for() -> None:
    done = script(
        "1283333333.12 f {\"((('localhost', 8200),), '2')\": 4L, 'b': 5}\n"
        "1283333363.15 d {'b': 9}\n"
        "1283333393.20 d {'c': 1}\n"
    )
    assert done.returncode == 0 and done.stderr == ""
    old = "\"((('localhost', 8200),), '2')\""
    assert done.stdout == (
        f"1283333333.12 f {{{old}: 4, 'b': 5}}\n"
        f"1283333363.15 f {{{old}: 4, 'b': 9}}\n"
        f"1283333393.20 f {{{old}: 4, 'b': 9, 'c': 1}}\n"
    )


def test_what_it_writes_says_the_same_as_what_it_read(tmp_path: Path) -> None:
    path = tmp_path / "tidlog"
    writer = tid_log.Writer(path, full_dump_period=4)
    for number in range(1, 20):
        writer.write({"a": number, "b": number // 3 + 1}, number)
    writer.close()
    full = script(path.read_text()).stdout
    assert " d " in path.read_text() and " d " not in full
    lines = full.encode().splitlines()
    assert list(tid_log.replay_lines(lines)) == list(tid_log.read_all(path))
    assert script(full).stdout == full


def test_lines_that_mean_nothing_are_left_out_and_named() -> None:
    text = (
        "1.00 d {'a': 1}\n2.00 f {'a': 5}\nrubbish\n3.00 d {'a': 6}\n4.00 f {'a': 7}\n"
    )
    assert [number for number, line in fill(text) if line is None] == [1, 3, 4]
    done = script(text)
    assert done.returncode == NotCoherent.exit_status
    assert done.stdout == "2.00 f {'a': 5}\n4.00 f {'a': 7}\n"
    assert "3 lines left out, the first is line 1" in done.stderr


def test_a_torn_last_line_is_what_a_crash_leaves() -> None:
    done = script("1.00 f {'a': 5}\n2.00 d {'a'")
    assert (done.returncode, done.stdout) == (0, "1.00 f {'a': 5}\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    text = "1.00 f {'a': 5}\n" * 50_000
    command = f"{sys.executable} -m tidstorage.commands.scripts.full_log | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1.00 f {'a': 5}\n"
