"""``bin/cluster cron`` with Debian's cron and the user's real crontab.

The user is one made for the test: the crontab of whoever runs it stays as it is.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from real import PATIENCE, wait_until
from small_cluster import SmallCluster

from tidstorage import crontab
from tidstorage.cluster import Cluster
from tidstorage.errors import DescriptionError, PartMissing

#: Of this run alone: others may test on the same machine.
USER = f"tidstorage-cron-{os.getpid()}"
USERS = "# mine\n0 1 1 1 * /bin/true\n"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a user for it"),
]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin", prepend=os.pathsep)
    for program in ("crontab", "cron"):
        if shutil.which(program) is None:
            subprocess.run(["apt-get", "install", "-y", "cron"], check=True)
    # What a killed process of the same number left.
    subprocess.run(["userdel", USER], stderr=subprocess.DEVNULL)
    wait_until(lambda: _users("useradd", "--system", USER), "the user is made")
    try:
        yield replace(SmallCluster(tmp_path).cluster(), user=USER)
    finally:
        subprocess.run(["crontab", "-u", USER, "-r"], stderr=subprocess.DEVNULL)
        wait_until(lambda: _users("userdel", USER), "the user is removed")


def _users(*command: str) -> bool:
    """Whether it could be done: others may hold the lock of the users' file."""
    return subprocess.run(command).returncode == 0


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
    # Not below a folder of ours, which its user may not enter.
    written = Path("/tmp", USER)
    render(cluster, f"* * * * * /bin/echo run > {written}")
    install(cluster)
    crons: list[subprocess.Popen[bytes]] = []

    def has_run() -> bool:
        # A second cron ends at once, and the first one may be another test's.
        if not crons or crons[-1].poll() is not None:
            crons.append(subprocess.Popen(["cron", "-f"], stderr=subprocess.DEVNULL))
            time.sleep(1)  # not too many of them
        return written.exists() and written.read_text() == "run\n"

    try:
        # It looks for new entries once a minute, and runs them once a minute.
        wait_until(has_run, "cron ran the entry", 2 * PATIENCE)
    finally:
        crons[-1].terminate()
        crons[-1].wait(PATIENCE)
        written.unlink(missing_ok=True)
