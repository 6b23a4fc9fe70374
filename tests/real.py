"""Real processes for tests: ZEO servers, free ports, waiting with a deadline."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tidstorage import occupants

T = TypeVar("T")


_given_ports: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody holds now, given to no other test.

    The tests that run at the same time take the even ones, or the odd ones.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    while True:
        (port,) = occupants.free_ports(1)
        if port not in _given_ports and port % 2 == int(worker) % 2:
            _given_ports.add(port)
            return port


def wait_until(condition: Callable[[], T], what: str, seconds: float = 30) -> T:
    """Poll until the condition is true and return it; AssertionError at the end."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def accepts(address: tuple[str, int]) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


class ZeoServer:
    """A real runzeo over FileStorages in ``folder``, one for each storage id."""

    def __init__(
        self,
        folder: Path,
        storages: Sequence[str],
        name: str = "zeo",
        blobs: bool = False,
    ) -> None:
        self.folder = folder
        self.name = name
        self.storages = tuple(storages)
        self.address = ("127.0.0.1", free_port())
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.configuration = folder / f"{name}.conf"
        self.log = folder / f"{name}.log"
        sections = "".join(
            f"<filestorage {each}>\n path {self.data_file(each)}\n pack-gc false\n"
            + (f" blob-dir {self.blob_directory(each)}\n" if blobs else "")
            + "</filestorage>\n"
            for each in storages
        )
        self.configuration.write_text(
            f"<zeo>\n address 127.0.0.1:{self.address[1]}\n</zeo>\n{sections}"
        )

    def data_file(self, storage: str) -> Path:
        """The Data.fs of one storage."""
        return self.folder / f"{storage}.fs"

    def blob_directory(self, storage: str) -> Path:
        """The blob directory of one storage (only with ``blobs``)."""
        return self.folder / f"{storage}.blobs"

    def start(self) -> "ZeoServer":
        """Start it and wait until it accepts connections."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ZEO.runzeo", "-C", str(self.configuration)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._accepts, f"ZEO server {self.name} answers; see {self.log}")
        return self

    def _accepts(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (
            f"ZEO server {self.name} ended:\n{self.log.read_text()}"
        )
        return accepts(self.address)

    def signal(self, number: int) -> None:
        """Send it a signal (SIGSTOP, SIGCONT...)."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None


@contextlib.contextmanager
def zeo_server(
    folder: Path, storages: Sequence[str], name: str = "zeo", blobs: bool = False
) -> Iterator[ZeoServer]:
    """A running ZEO server for the length of a ``with`` block."""
    server = ZeoServer(folder, storages, name, blobs).start()
    try:
        yield server
    finally:
        server.kill()
