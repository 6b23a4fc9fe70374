"""`tidstorage-dump` against a real daemon, and against what is none."""

import ast
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from daemons import running_daemon
from real_processes import PATIENCE, free_port

from tidstorage.errors import NotConnected

pytestmark = pytest.mark.integration


def dump(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tidstorage.commands.scripts.dump",
            "127.0.0.1",
            str(port),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_it_prints_what_is_published(tmp_path: Path) -> None:
    with running_daemon(tmp_path) as daemon:
        assert dump(daemon.port).stdout == "{}\n"
        peer = daemon.peer()
        peer.write("t1", b=1)
        many = {f"storage {number}": number + 1 for number in range(3000)}
        peer.write("t2", **many)
        assert peer.bootstraped() == b"1\n"
        done = dump(daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    assert ast.literal_eval(done.stdout) == {"b": 1, **many}


def test_no_daemon_is_an_error() -> None:
    port = free_port()
    done = dump(port)
    assert done.returncode == NotConnected.exit_status
    assert f"127.0.0.1:{port}" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\n", b"2\na\n"])
def test_what_answers_and_is_no_daemon_is_an_error(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        done = dump(server.getsockname()[1])
        thread.join()
    assert done.returncode == NotConnected.exit_status
    assert "Traceback" not in done.stderr
