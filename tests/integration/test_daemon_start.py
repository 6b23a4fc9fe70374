"""The daemon's start and its configuration: what it takes over, and what it refuses."""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from daemons import RUN_DAEMON, DaemonProcess, Peer, bootstrapped, running_daemon
from real_processes import PATIENCE, free_port, wait_until

from tidstorage.errors import DescriptionError, Locked, PortInUse

pytestmark = pytest.mark.integration


OLD_ID = '[[["127.0.0.1", 8100]], "root"]'


def test_in_the_background(tmp_path):
    daemon = DaemonProcess(tmp_path)
    started = subprocess.run(daemon.command, capture_output=True, timeout=PATIENCE)
    assert started.returncode == 0, started.stderr
    number = int(daemon.pid_file.read_text())
    try:
        # Whoever started it can rely on it at once.
        assert bootstrapped(daemon).dump() == {}
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[3]) not in (number, os.getsid(0))
        assert str(Path(f"/proc/{number}/fd/2").readlink()) == os.devnull
    finally:
        os.kill(number, signal.SIGTERM)
    wait_until(lambda: not daemon.pid_file.exists(), "its end")


@pytest.mark.parametrize("foreground", [[], ["-n"]])
def test_a_busy_port_is_reported_with_its_occupant(daemon, tmp_path, foreground):
    other = tmp_path / "other"
    other.mkdir()
    second = DaemonProcess(other)
    second.arguments[1] = str(daemon.port)
    done = subprocess.run(
        [*second.command, *foreground], capture_output=True, text=True, timeout=PATIENCE
    )
    if second.pid_file.exists():
        os.kill(int(second.pid_file.read_text()), signal.SIGKILL)
    assert done.returncode == PortInUse.exit_status
    assert f":{daemon.port}" in done.stderr
    assert f"process {daemon.process.pid}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_daemon_with_the_same_pid_file(daemon):
    second = DaemonProcess(daemon.folder)
    done = subprocess.run(
        second.command, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == Locked.exit_status
    assert str(daemon.process.pid) in done.stderr
    assert int(daemon.pid_file.read_text()) == daemon.process.pid


def test_a_second_daemon_on_the_same_tid_log(daemon):
    second = DaemonProcess(daemon.folder)
    second.pid_file = daemon.folder / "second.pid"
    second.arguments[second.arguments.index("--pidfile") + 1] = str(second.pid_file)
    done = subprocess.run(
        second.command, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == Locked.exit_status
    assert str(daemon.tid_log) in done.stderr and "Traceback" not in done.stderr


def test_a_stale_pid_file_is_taken_over(tmp_path):
    # Process 1 is alive, and is no daemon.
    (tmp_path / "daemon.pid").write_text("1\n")
    with running_daemon(tmp_path) as daemon:
        wait_until(
            lambda: daemon.pid_file.read_text() == f"{daemon.process.pid}\n",
            "its own number",
        )
        daemon.kill()
        daemon.start()
        assert daemon.stop() == 0
        assert not daemon.pid_file.exists()


@pytest.mark.parametrize(
    "option", ["-s", "--journal", "-l", "--pidfile"], ids=lambda option: option
)
def test_errors_of_the_start_come_before_the_background(tmp_path, option):
    done = subprocess.run(
        [
            *RUN_DAEMON,
            *("-p", str(free_port()), option, str(tmp_path / "no" / "folder")),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == DescriptionError.exit_status
    assert str(tmp_path / "no" / "folder") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        user = ("--user", "nobody", "--group", "nogroup")
        with running_daemon(folder, *user) as daemon:
            status = Path(f"/proc/{daemon.process.pid}/status").read_text()
            assert "Uid:\t65534\t65534\t65534\t65534" in status
            assert "Gid:\t65534\t65534\t65534\t65534" in status
            assert daemon.tid_log.stat().st_uid == 65534


def test_a_user_that_does_not_exist(tmp_path):
    command = DaemonProcess(tmp_path, "--user", "nobody-of-this-name").command
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == DescriptionError.exit_status
    assert "nobody-of-this-name" in done.stderr


def test_a_configuration_of_the_original(tmp_path):
    port = free_port()
    configuration = tmp_path / "tidstorage.py"
    configuration.write_text(
        '"""TIDStorage"""\n'
        "known_tid_storage_identifier_dict = {}\n"
        f"host = '127.0.0.1'\nport = {port}\nfork = False\n"
        f"status_file = {str(tmp_path / 'tidstorage.tid')!r}\n"
        f"logfile_name = {str(tmp_path / 'tidstorage.log')!r}\n"
        f"pidfile_name = {str(tmp_path / 'tidstorage.pid')!r}\n"
        "burst_period = 0\nfull_dump_period = 300\n"
        "timestamp_file_path = '/nowhere'\nkeep_full_backup_count = 3\n"
    )
    process = subprocess.Popen(
        [
            *RUN_DAEMON,
            "-c",
            str(configuration),
        ]
    )
    try:
        wait_until((tmp_path / "tidstorage.pid").exists, "the pid file")
        peer = wait_until(lambda: _connected(port), "it answers")
        peer.write("t1", **{OLD_ID: 1})
        peer.write("t2", **{OLD_ID: 2})
        assert peer.dump() == {OLD_ID: 2}
        wait_until(
            lambda: "root" in (tmp_path / "tidstorage.tid").read_text(),
            "TID log",
        )
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


def _connected(port: int) -> Peer | None:
    try:
        return Peer(port)
    except ConnectionRefusedError:
        return None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port = 9001\nimport os\n", ["line 2", "assignment of a literal"]),
        ("port = 9000 + unknown\n", ["line 1", "assignment of a literal"]),
        ("burst_period = 'often'\n", ["line 1", "expected a number", "'often'"]),
        ("port = 9001\nstatus_file = 7\n", ["line 2", "expected a string"]),
        ("port = [\n", ["line 1", "no Python"]),
        ("known_tid_storage_identifier_dict = {'x': ()}\n", ["line 1", "identifier"]),
        ("port many\n", ["line 1", "many"]),
        ("address 127.0.0.1\nprot 1\n", ["line 2", "prot"]),
        ("<storage root>\nserver nowhere\n</storage>\n", ["host:port", "'nowhere'"]),
        ("<storage root>\n</storage>\n", ["line", "server"]),
        ("burst-period -1\n", ["line 1", "seconds"]),
        ("<storage>\nserver a:1\n</storage>\n", ["line"]),
        (
            "<storage a>\nserver a:1\n</storage>\n<storage b>\nserver a:1\nalias a\n"
            "</storage>\n",
            ["'a'"],
        ),
    ],
)
def test_mistakes_in_a_configuration(tmp_path, text, expected):
    configuration = tmp_path / "tidstorage.conf"
    configuration.write_text(text)
    done = subprocess.run(
        [
            *RUN_DAEMON,
            "-n",
            "-c",
            configuration,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == DescriptionError.exit_status, done.stderr
    for words in (str(configuration), *expected):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
