"""A real daemon process for tests, a peer that talks to it, and its journal."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from real_processes import PATIENCE, free_port, send_signal, wait_until

from tidstorage.points import journal
from tidstorage.points.entries import Entry
from tidstorage.wire import protocol

#: How a daemon is run; its arguments follow.
RUN_DAEMON = (sys.executable, "-m", "tidstorage.commands.scripts.daemon")


class Peer:
    """One connection to a daemon."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def begin(self, name: str, *storages: str) -> None:
        self.send(protocol.encode_begin(name, storages))

    def commit(self, name: str, **tids: int) -> None:
        self.send(protocol.encode_commit(name, tids))

    def abort(self, name: str) -> None:
        self.send(protocol.encode_abort(name))

    def write(self, name: str, **tids: int) -> None:
        """A whole transaction."""
        self.begin(name, *tids)
        self.commit(name, **tids)

    def dump(self) -> Mapping[str, int]:
        self.send(protocol.encode_dump())
        answer = b""
        while (vector := protocol.decode_dict(answer)) is None:
            piece = self.socket.recv(1 << 16)
            assert piece, "closed amid the answer"
            answer += piece
        return vector

    def bootstraped(self) -> bytes:
        self.send(protocol.encode_bootstraped())
        return self.socket.recv(16)

    def is_closed(self) -> bool:
        """Wait for the daemon to close."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()


class DaemonProcess:
    """A daemon on a free port, its files in ``folder``."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder = folder
        self.port = free_port()
        self.tid_log = folder / "tidlog"
        self.journal = folder / "journal"
        self.log = folder / "server.log"
        self.pid_file = folder / "daemon.pid"
        self.arguments = [
            *("-p", str(self.port)),
            *("-s", str(self.tid_log)),
            *("--journal", str(self.journal)),
            *("-l", str(self.log)),
            *("--pidfile", str(self.pid_file)),
            *("-b", "0"),
            *map(str, arguments),
        ]
        self.process: subprocess.Popen[bytes] | None = None
        #: What is in its environment besides.
        self.environment: dict[str, str] = {}

    @property
    def command(self) -> list[str]:
        return [*RUN_DAEMON, *self.arguments]

    def start(self) -> "DaemonProcess":
        """Start it in the foreground, and wait until it answers."""
        self.process = subprocess.Popen(
            [*self.command, "-n"],
            cwd=self.folder,
            env={**os.environ, **self.environment},
        )
        wait_until(self._answers, "the daemon answers")
        return self

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (
            self.log.read_text() if self.log.exists() else "the daemon ended"
        )
        try:
            # Another process may answer there: only ours has its id in our file.
            mine = self.pid_file.read_text() == f"{self.process.pid}\n"
            Peer(self.port).close()
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return mine

    def peer(self) -> Peer:
        return Peer(self.port)

    def signal(self, number: int) -> None:
        assert self.process is not None
        send_signal(self.process, number)

    def stop(self) -> int:
        """TERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._ended()

    def _ended(self) -> int:
        assert self.process is not None
        status = self.process.wait(PATIENCE)
        self.process = None
        return status

    def cpu_seconds(self) -> float:
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running_daemon(folder: Path, *arguments: object) -> Iterator[DaemonProcess]:
    """A running daemon for the length of a ``with`` block."""
    daemon = DaemonProcess(folder, *arguments).start()
    try:
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.signal(signal.SIGCONT)
            daemon.kill()


def journal_entries(path: Path) -> list[Entry]:
    """The entries, oldest first; [] where there is no journal yet.

    A torn last line and kinds that are not known are left out.

    Raises: FileUnreadable: where an entry is broken.
    """
    entries = [
        journal.parse_line(path, line) for line in journal.read_whole_lines(path)
    ]
    return [entry for entry in entries if entry is not None]


def bootstrapped(daemon: DaemonProcess) -> Peer:
    peer = daemon.peer()
    peer.begin("first")
    peer.abort("first")
    assert peer.bootstraped() == b"1\n"
    return peer
