"""``bin/cluster cron`` with Debian's cron and the user's real crontab.

The user is one made for the test: the crontab of whoever runs it stays as it is.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from real import wait_until
from small_cluster import SmallCluster

from tidstorage import crontab
from tidstorage.cluster import Cluster
from tidstorage.errors import DescriptionError, PartMissing

USER = "tidstorage-cron-test"
USERS = "# mine\n0 1 1 1 * /bin/true\n"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a user for it"),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    for program in ("crontab", "cron"):
        if shutil.which(program) is None:
            subprocess.run(["apt-get", "install", "-y", "cron"], check=True)
    subprocess.run(["useradd", "--system", USER], check=True)
    try:
        yield replace(SmallCluster(tmp_path).cluster(), user=USER)
    finally:
        subprocess.run(["crontab", "-u", USER, "-r"], stderr=subprocess.DEVNULL)
        subprocess.run(["userdel", USER], check=True)


def render(cluster: Cluster, entry: str) -> None:
    cluster.etc_directory.mkdir(exist_ok=True)
    (cluster.etc_directory / "crontab").write_text(f"# Cluster small\n{entry}\n")


def install(cluster: Cluster) -> None:
    crontab.write(cluster, crontab.installed(cluster, crontab.read(cluster)))


def test_the_users_own_entries_survive_install_and_remove(cluster: Cluster) -> None:
    assert crontab.read(cluster) == ""
    crontab.write(cluster, USERS)
    render(cluster, "15 2 * * * /bin/true")
    install(cluster)
    assert "15 2 * * * /bin/true" in crontab.read(cluster)
    render(cluster, "30 3 * * * /bin/true")
    install(cluster)
    text = crontab.read(cluster)
    assert text.startswith(USERS)
    assert "30 3" in text and "15 2" not in text
    crontab.write(cluster, crontab.removed(cluster, text))
    assert crontab.read(cluster) == USERS


def test_nothing_is_left_where_there_was_nothing(cluster: Cluster) -> None:
    render(cluster, "15 2 * * * /bin/true")
    install(cluster)
    crontab.write(cluster, crontab.removed(cluster, crontab.read(cluster)))
    result = subprocess.run(["crontab", "-u", USER, "-l"], capture_output=True)
    assert result.returncode == 1


def test_schedule_that_cron_refuses_leaves_the_crontab_alone(cluster: Cluster) -> None:
    crontab.write(cluster, USERS)
    render(cluster, "99 2 * * * /bin/true")
    with pytest.raises(DescriptionError, match="bad minute"):
        install(cluster)
    assert crontab.read(cluster) == USERS


def test_missing_crontab_program_says_what_to_install(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PartMissing) as caught:
        crontab.read(cluster)
    monkeypatch.undo()
    assert caught.value.hint == "apt-get install cron"


def test_cron_runs_what_was_installed(cluster: Cluster) -> None:
    written = Path(tempfile.gettempdir()) / f"{USER}-{os.getpid()}"
    render(cluster, f"* * * * * /bin/echo run > {written}")
    install(cluster)
    try:
        with running_cron():
            wait_until(written.exists, "cron ran the entry", 70)
            wait_until(lambda: written.read_text() == "run\n", "its output", 5)
    finally:
        written.unlink(missing_ok=True)


@contextlib.contextmanager
def running_cron() -> Iterator[None]:
    """The system's cron; one of our own where none runs yet."""
    # It takes a lock, so that a second one ends at once.
    process = subprocess.Popen(["cron", "-f"], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)
