"""What a test said when it failed first is kept, though its second try passes."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: Fails for the first time only, while another test runs beside it.
TWO_TESTS = """
import pathlib, sys, pytest
from real_processes import wait_until

HERE = pathlib.Path(__file__).parent
BEGUN, TRIED = HERE / "begun", HERE / "tried"

@pytest.mark.parametrize("value", ["a/b"])
def test_comes_and_goes(value):
    print("said on the way")
    print("complained on the way", file=sys.stderr)
    if not TRIED.exists():
        WAIT
        TRIED.touch()
        raise ValueError("the first failure")

def test_other():
    BEGUN.touch()
    wait_until(TRIED.exists, "the first try")
"""


def run(folder, module, *options):
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {TESTS}\n")
    (folder / "conftest.py").write_text('pytest_plugins = ["first_failures"]\n')
    (folder / "test_it.py").write_text(module)
    return subprocess.run(
        [*(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"), *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_a_first_failure_is_kept(tmp_path, workers):
    wait = 'wait_until(BEGUN.exists, "the other test")' if workers else "pass"
    done = run(tmp_path, TWO_TESTS.replace("WAIT", wait), "--reruns", "1", *workers)
    assert done.returncode == 0, done.stdout
    (path,) = (tmp_path / "var/log/test-reruns").iterdir()
    assert path.name == "test_it.py-test_comes_and_goes-a-b.txt"
    assert f"\nvar/log/test-reruns/{path.name}\n" in done.stdout
    text = path.read_text()
    assert text.startswith("test: test_it.py::test_comes_and_goes[a/b]\nphase: call\n")
    assert 'raise ValueError("the first failure")' in text
    assert "said on the way" in text and "complained on the way" in text
    lines = dict(line.partition(": ")[::2] for line in text.splitlines())
    assert len([float(each) for each in lines["load average"].split()]) == 3
    other = "test_it.py::test_other" if workers else "none"
    assert lines["tests beside it"] == other
    assert (lines["worker"] != "none") == bool(workers)


def test_each_failure_has_a_file_and_none_is_written_over(tmp_path):
    module = "def test_it(): assert not 'never'\n"
    for count in (2, 4):
        done = run(tmp_path, module, "--reruns", "2")
        assert done.returncode == 1
        kept = sorted((tmp_path / "var/log/test-reruns").iterdir())
        assert len(kept) == count
        assert all("assert not 'never'" in path.read_text() for path in kept)


def test_an_error_of_a_fixture_is_one_of_its_phase(tmp_path):
    module = (
        "import pytest\n"
        "@pytest.fixture\ndef broken(): raise OSError('of the fixture')\n"
        "def test_it(broken): pass\n"
    )
    assert run(tmp_path, module, "--reruns", "1").returncode == 1
    (path,) = (tmp_path / "var/log/test-reruns").iterdir()
    assert "phase: setup" in path.read_text()
    assert "of the fixture" in path.read_text()


def test_without_a_second_try_nothing_is_written(tmp_path):
    done = run(tmp_path, "def test_it(): assert False\n")
    assert done.returncode == 1 and "assert False" in done.stdout
    assert not (tmp_path / "var").exists()
