"""``bin/cluster cron`` with Debian's cron and the user's real crontab.

The user is one made for the test: the crontab of whoever runs it stays as it is.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from real_processes import PATIENCE, free_port, wait_until
from small_cluster import SmallCluster, small_cluster

from tidstorage.cluster.cluster import Cluster
from tidstorage.cluster.load import load_cluster
from tidstorage.commands.scripts import repozo, scheduled
from tidstorage.deployment import crontab
from tidstorage.deployment import install as deploy
from tidstorage.errors import DescriptionError, Locked, NotConnected, PartMissing
from tidstorage.operation import lock
from tidstorage.operation import results as runs
from tidstorage.system import clock
from tidstorage.verbs.backup.backup import back_up

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
    crontab.plan_installation(cluster).perform()


def test_the_users_own_entries_survive_install_and_remove(cluster: Cluster) -> None:
    assert crontab.read_crontab(cluster) == ""
    crontab.write_crontab(cluster, USERS)
    render(cluster, "15 2 * * * /bin/true")
    install(cluster)
    assert "15 2 * * * /bin/true" in crontab.read_crontab(cluster)
    render(cluster, "30 3 * * * /bin/true")
    install(cluster)
    text = crontab.read_crontab(cluster)
    assert text.startswith(USERS)
    assert "30 3" in text and "15 2" not in text
    crontab.plan_removal(cluster).perform()
    assert crontab.read_crontab(cluster) == USERS


def test_nothing_is_left_where_there_was_nothing(cluster: Cluster) -> None:
    render(cluster, "15 2 * * * /bin/true")
    install(cluster)
    crontab.plan_removal(cluster).perform()
    result = subprocess.run(["crontab", "-u", USER, "-l"], capture_output=True)
    assert result.returncode == 1


def test_schedule_that_cron_refuses_leaves_the_crontab_alone(cluster: Cluster) -> None:
    crontab.write_crontab(cluster, USERS)
    render(cluster, "99 2 * * * /bin/true")
    with pytest.raises(DescriptionError, match="bad minute"):
        install(cluster)
    assert crontab.read_crontab(cluster) == USERS


def test_missing_crontab_program_says_what_to_install(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PartMissing) as caught:
        crontab.read_crontab(cluster)
    monkeypatch.undo()
    assert caught.value.hint == "apt-get install cron"


@contextlib.contextmanager
def cron_running() -> Iterator[Callable[[], bool]]:
    """The system's cron, or one of ours; what is given is to be asked at times."""
    crons: list[subprocess.Popen[bytes]] = []

    def is_running() -> bool:
        # A second cron ends at once, and the first one may be another test's.
        if not crons or crons[-1].poll() is not None:
            crons.append(subprocess.Popen(["cron", "-f"], stderr=subprocess.DEVNULL))
            time.sleep(1)  # not too many of them
        return True

    try:
        yield is_running
    finally:
        if crons:
            crons[-1].terminate()
            crons[-1].wait(PATIENCE)


SCHEDULES = """
[backup]
directory = "{folder}/backup"
schedule = "* * * * *"
[verify]
schedule = "* * * * *"
[retention]
schedule = "* * * * *"
[pack]
schedule = "* * * * *"
keep-days = 0
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of real servers, with its files and scripts, and a first set."""
    with small_cluster(tmp_path) as small:
        small.write(1, 4, group=["catalog", "documents", "root"])
        file = tmp_path / "site" / "cluster.toml"
        file.parent.mkdir()
        file.write_text(small.description() + SCHEDULES.format(folder=tmp_path))
        described = load_cluster(file)
        deploy.write_files(described)
        back_up(described)
        yield described


def test_cron_runs_what_was_installed(cluster: Cluster, running: Cluster) -> None:
    """Of one cluster from a user's crontab, of another from a file in /etc/cron.d.

    There all verbs begin at once, and wait for each other.
    """
    # Not below a folder of ours, which its user may not enter.
    written = Path("/tmp", USER)
    render(cluster, f"* * * * * /bin/echo run > {written}")
    install(cluster)
    system = crontab.system_file(running)
    installed = Path("/etc/cron.d", USER)
    before = clock.now()
    subprocess.run(["install", "-m", "644", str(system), str(installed)], check=True)

    def have_run() -> bool:
        results = [runs.read(running, verb) for verb in runs.VERBS]
        return (
            written.exists()
            and all(
                each is not None and each.good is not None and each.good.begun > before
                for each in results
            )
            and all(f" {verb} ends\n" in logged(verb) for verb in runs.VERBS)
        )

    def logged(verb: str) -> str:
        log = running.log_directory / f"{verb}.log"
        return log.read_text() if log.exists() else ""

    try:
        with cron_running() as is_running:
            # It looks for new entries once a minute, and runs them once a minute.
            wait_until(
                lambda: is_running() and have_run(), "cron ran them all", 4 * PATIENCE
            )
    finally:
        installed.unlink()
        written_text = written.read_text() if written.exists() else ""
        written.unlink(missing_ok=True)
    assert written_text == "run\n"
    for verb in runs.VERBS:
        assert f" {verb} begins\n" in logged(verb)
    assert "packing catalog up to" in logged("pack")
    # What the next minute began has to end before its files go away.
    with lock.waiting(PATIENCE):
        for verb in runs.VERBS:
            path = running.run_directory / f"cron-{verb}.lock"
            with lock.hold_file(path, "the end of the test"):
                pass


def test_a_run_finds_the_former_one_going(
    running: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--cluster-file", str(running.file), "--backup", "--scheduled"]
    before = runs.read(running, "backup")
    with scheduled.hold_turn(running, "backup"):
        capsys.readouterr()
        assert repozo.main(command) == Locked.exit_status
    output = capsys.readouterr()
    assert "the former backup (process" in output.err
    # It changes nothing: what is known of the former one is what counts.
    assert runs.read(running, "backup") == before
    assert repozo.main(command) == 0
    output = capsys.readouterr()
    assert "backup begins\n" in output.out and "set " in output.out
    assert output.err == ""


def test_a_run_waits_for_another_verb_and_not_for_ever(
    running: Cluster,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduled, "PATIENCE", 0.2)
    with lock.hold(running, "restore"):
        status = scheduled.pack(["--cluster-file", str(running.file)])
    assert status == Locked.exit_status
    output = capsys.readouterr()
    assert "restore (process" in output.err and "waited 0.2 s for it" in output.err
    assert " pack failed: restore (process" in output.out


def test_a_failure_is_for_the_mail_and_the_log(
    running: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    text = running.file.read_text()
    (port,) = {each.address[1] for each in running.zeos if each.name == "beta"}
    running.file.write_text(text.replace(f":{port}", f":{free_port()}"))
    for command, verb in (
        (repozo.main, "backup"),
        (scheduled.pack, "pack"),
    ):
        options = ["--scheduled"] if verb == "backup" else []
        status = command(["--cluster-file", str(running.file), *options])
        assert status == NotConnected.exit_status
        output = capsys.readouterr()
        assert output.err.startswith("error: ZEO server beta")
        assert f" {verb} failed: ZEO server beta" in output.out
        last = runs.read(running, verb)
        assert last is not None and last.last.status == status
