"""bootstrap.py in a copy of the checkout: build, up, down, and all that is odd.

The copies share the installed distributions of this interpreter, as if they had
been installed before; ``long`` tests install everything anew.
"""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from built_clusters import scratch_cluster
from checkouts import (
    bootstrap,
    copy_of_checkout,
    load_bootstrap,
    share_environment,
)
from real_processes import wait_until

pytestmark = pytest.mark.integration


def processes_of(folder: Path) -> list[str]:
    """Pid and command line of all processes that work for the cluster in the folder.

    But those that the daemon starts now and then, for a moment.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if (
            str(folder) in line
            and "barrier_helper" not in line
            and int(path.parent.name) != os.getpid()
        ):
            found.append(f"{path.parent.name} {line}")
    return sorted(found)


@pytest.fixture
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A short name: supervisor's socket lies below it.
    return copy_of_checkout(tmp_path_factory.mktemp("c") / "site")


@pytest.fixture
def warm(copy: Path) -> Path:
    """A copy whose environment is there; nothing is built."""
    share_environment(copy)
    return copy


def test_a_cluster_goes_up_and_down(warm: Path) -> None:
    ports = scratch_cluster(warm.parent / "ports")
    (warm / "cluster.toml").write_text(ports.text())
    try:
        first = bootstrap(warm, "up")
        assert first.returncode == 0, first.stdout + first.stderr
        for port in ports.zopes.values():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                assert answer.status == 200
            assert f"http://127.0.0.1:{port}/" in first.stdout
        password = Path(re.findall(r"\S*admin-password", first.stdout)[0])
        status = (warm / password).stat()
        assert status.st_mode & 0o777 == 0o600 and status.st_size > 8
        assert first.stdout.rstrip().count("\n  bin/cluster ") == 3
        sets = list((warm / "var/backup/sets").glob("*/manifest.json"))
        assert len(sets) == 1
        before = {
            path: (path.stat().st_ino, path.stat().st_mtime_ns)
            for part in ("bin", "etc")
            for path in (warm / part).iterdir()
        }
        running = processes_of(warm)

        second = bootstrap(warm, "up")
        assert second.returncode == 0, second.stdout + second.stderr
        assert "Nothing had to be built" in second.stdout
        assert second.stdout.count("Nothing to do") == 2
        assert processes_of(warm) == running
        assert before == {
            path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in before
        }
        assert list((warm / "var/backup/sets").glob("*/manifest.json")) == sets
    finally:
        down = bootstrap(warm, "down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert "stays" in down.stdout and "var/storage" in down.stdout
    assert processes_of(warm) == []
    assert (warm / "var/storage/root/Data.fs").stat().st_size > 4
    assert bootstrap(warm, "down").returncode == 0


def test_a_busy_port_is_named_with_its_occupant(warm: Path) -> None:
    ports = scratch_cluster(warm.parent / "ports")
    (warm / "cluster.toml").write_text(ports.text())
    port = ports.zeos["beta"]
    with socket.create_server(("127.0.0.1", port)):
        try:
            result = bootstrap(warm, "up")
        finally:
            bootstrap(warm, "down")
    assert result.returncode == 4, result.stdout + result.stderr
    assert str(port) in result.stderr
    assert str(os.getpid()) in result.stderr
    assert "Traceback" not in result.stderr
    assert processes_of(warm) == []


def test_the_default_description_is_copied_once(warm: Path) -> None:
    assert bootstrap(warm).returncode == 0
    default = (warm / "cluster.default.toml").read_text()
    assert (warm / "cluster.toml").read_text() == default
    (warm / "cluster.toml").write_text(default + "\n# mine\n")
    assert bootstrap(warm).returncode == 0
    assert (warm / "cluster.toml").read_text().endswith("# mine\n")


def test_a_bad_description_is_one_clean_message(warm: Path) -> None:
    (warm / "cluster.toml").write_text('[[storage]]\nid = "a"\nzoe = "alpha"\n')
    result = bootstrap(warm)
    text = result.stdout + result.stderr
    assert result.returncode == 1, text
    assert "storage[1].zoe" in text, text
    assert 'mount-point = "/"' in text, text
    assert "Traceback" not in text
    assert not (warm / "etc").exists()


def test_nothing_is_running_where_nothing_is_built(copy: Path) -> None:
    result = bootstrap(copy, "down")
    assert result.returncode == 0
    assert "Nothing is built" in result.stdout
    assert not (copy / ".venv").exists()


def test_the_help_tells_every_action(copy: Path) -> None:
    result = bootstrap(copy, "-h")
    assert result.returncode == 0
    for action in ("up", "down", "test"):
        assert f"bootstrap.py {action}" in result.stdout


def test_an_incomplete_distribution_is_installed_again(warm: Path) -> None:
    """What an interrupted pip leaves: metadata without the end of their list."""
    bootstrap_module = load_bootstrap(warm)
    site = next((warm / ".venv/lib").glob("python3*/site-packages"))
    for name, record in {
        "whole-1.0.dist-info": "whole/a.py,,\nwhole-1.0.dist-info/INSTALLER,,\n",
        "half-1.0.dist-info": "half/a.py,,\n",
    }.items():
        (site / name).mkdir()
        (site / name / "RECORD").write_text(record)
    (site / "begun-1.0.dist-info").mkdir()
    bootstrap_module.remove_half_installed()
    assert {path.name for path in site.glob("*.dist-info")} == {"whole-1.0.dist-info"}


def test_another_python_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap_module = load_bootstrap(copy)
    monkeypatch.setattr(bootstrap_module, "SUPPORTED", ((3, 1),))
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "up"])
    assert bootstrap_module.main() == 1
    error = capsys.readouterr().err
    assert "this is Python 3." in error and "3.11" in error
    assert not (copy / ".venv").exists()


def test_a_python_without_venv_says_what_is_missing(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap_module = load_bootstrap(copy)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(bootstrap_module.StepFailed) as caught:
        bootstrap_module.require_venv()
    assert f"python3.{sys.version_info[1]}-venv" in caught.value.hint


def test_an_unreachable_index_is_said(copy: Path) -> None:
    result = bootstrap(
        copy,
        PIP_INDEX_URL="http://127.0.0.1:9/",
        PIP_RETRIES="0",
        PIP_NO_CACHE_DIR="1",
        # Of this machine's own configuration nothing counts.
        PIP_CONFIG_FILE=os.devnull,
        PIP_EXTRA_INDEX_URL="",
        PIP_FIND_LINKS="",
    )
    assert result.returncode == 1
    assert "index reachable" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.long
@pytest.mark.timeout(900)
def test_cold_and_interrupted(copy: Path) -> None:
    """From nothing, with Ctrl-C while pip installs; then it goes on."""
    pip_began = "pinned distributions..."
    with subprocess.Popen(
        [sys.executable, "bootstrap.py"],
        cwd=copy,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if pip_began in line:
                break
        site = next((copy / ".venv/lib").glob("python3*/site-packages"))
        wait_until(lambda: (site / "ZODB").exists(), "pip has got to ZODB", 300)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert "goes on" in process.stderr.read()
    began = time.monotonic()
    result = bootstrap(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert time.monotonic() - began < 180
    subprocess.run([copy / ".venv/bin/python", "-m", "pip", "check"], check=True)
    again = bootstrap(copy)
    assert "Nothing had to be built" in again.stdout
