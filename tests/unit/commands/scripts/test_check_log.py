"""`tidstorage-check-log`, on our logs and on those of the original."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from real_processes import PATIENCE

from tidstorage.commands.scripts.check_log import Finding, examine
from tidstorage.errors import NotCoherent
from tidstorage.points import tid_log

#: As the original wrote it on Python 2.
ORIGINAL = (
    "1283333333.12 f {\"((('localhost', 8200),), '2')\": 263574651386539418L,"
    ' \'[[["127.0.0.1", 8100]], "root"]\': 5}\n'
    '1283333363.15 d {\'[[["127.0.0.1", 8100]], "root"]\': 9}\n'
    "1283333393.20 d {\"((('localhost', 8200),), '2')\": 263574651386539419L}\n"
)


def check(text: str) -> list[Finding]:
    return list(examine(io.BytesIO(text.encode())))


def script(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidstorage.commands.scripts.check_log"],
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_a_log_of_the_original_is_sound() -> None:
    assert check(ORIGINAL) == []
    done = script(ORIGINAL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_log_that_our_writer_wrote_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "tidlog"
    for run in range(3):
        writer = tid_log.Writer(path, full_dump_period=2)
        for number in range(1, 9):
            writer.write({"a": run * 10 + number, "b": 4}, run * 100 + number)
        writer.close()
    assert check(path.read_text()) == []


def test_nothing_is_sound() -> None:
    assert script("").returncode == 0


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("1.00 f {'a': 5}\n2.00 d {'a': 4}\n", 2, "a goes back, from 5 to 4"),
        ("1.00 f {'a': 5}\n2.00 f {'a': 4}\n", 2, "a goes back, from 5 to 4"),
        ("2.00 f {'a': 5}\n1.99 d {'a': 6}\n", 2, "time goes back"),
        ("1.00 d {'a': 5}\n", 1, "no full line before it"),
        ("1.00 f {'a': 5}\n2.00 d {'a'\n3.00 f {'a': 7}\n", 2, "cannot be read"),
        ("1.00 f {'a': 5}\n\nrubbish\n3.00 f {'a': 7}\n", 3, "cannot be read"),
        ("1.00 f {'a': 5}\n2.00 d __import__('os')\n3.00 f {}\n", 2, "cannot be"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, line: int, words: str) -> None:
    first = check(text)[0]
    assert first.line == line and words in first.text and first.wrong
    done = script(text)
    assert done.returncode == NotCoherent.exit_status
    assert f"line {line}: " in done.stdout and words in done.stdout
    assert "Traceback" not in done.stderr


def test_a_rise_that_stays_below_the_highest_has_gone_back_too() -> None:
    """Judged by the highest ever seen."""
    found = check(
        "1.00 f {'a': 5}\n2.00 d {'a': 2}\n3.00 d {'a': 3}\n4.00 d {'a': 6}\n"
    )
    assert [each.line for each in found] == [2, 3]


def test_differences_behind_a_lost_line_mean_nothing_until_a_full_one() -> None:
    found = check(
        "1.00 f {'a': 5}\nrubbish\n3.00 d {'a': 6}\n4.00 f {'a': 6}\n5.00 d {'a': 7}\n"
    )
    assert [each.line for each in found] == [2, 3]


def test_a_torn_last_line_and_a_storage_that_went_away_are_told_but_not_wrong() -> None:
    text = "1.00 f {'a': 5, 'b': 1}\n2.00 f {'a': 5}\n3.00 d {'a'"
    assert [(each.line, each.wrong) for each in check(text)] == [(2, False), (3, False)]
    done = script(text)
    assert done.returncode == 0 and "crash" in done.stdout
