"""Real processes for tests: ZEO servers, free ports, waiting with a deadline."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tidstorage.errors import FileUnreadable
from tidstorage.system import proc

T = TypeVar("T")

#: Seconds to wait for what comes at once where nothing else runs: only a hang takes
#: longer, also on a machine that is slow and has much else to do.
PATIENCE = 120.0
#: Below those of outgoing connections, and below those that the product takes.
_BLOCKS = range(10000, 15000, 100)
_given_ports: deque[int] = deque(maxlen=60)


@contextlib.contextmanager
def block_of_ports() -> Iterator[None]:
    """Take all free ports from a block that no other process of tests has.

    Another would find a port free whose server is down just now.
    """
    before = proc._FREE_PORTS
    with contextlib.ExitStack() as stack:
        for first in _BLOCKS:
            # Its first port is held, and tells the others that it is taken.
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", first)))
                proc._FREE_PORTS = range(first + 1, first + _BLOCKS.step)
                break
        else:
            raise AssertionError(f"all blocks of {_BLOCKS} are taken")
        try:
            yield
        finally:
            proc._FREE_PORTS = before


def free_port() -> int:
    """A port of loopback that nobody holds now, and no other test was given."""
    while True:
        (port,) = proc.free_ports(1)
        if port not in _given_ports:
            _given_ports.append(port)
            return port


def wait_until(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Poll until the condition is true and return it; AssertionError at the end.

    A file, an entry or a key that is not there yet may come.
    """
    deadline = time.monotonic() + seconds
    while True:
        missing: Exception | None = None
        try:
            result = condition()
        except (LookupError, FileNotFoundError, FileUnreadable) as error:
            missing = error
        else:
            if result:
                return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}") from missing
        time.sleep(0.02)


def send_signal(process: "subprocess.Popen[Any]", number: int) -> None:
    """Send a signal; after SIGSTOP the process does stand still on return."""
    process.send_signal(number)
    if number == signal.SIGSTOP:
        wait_until(lambda: _stands_still(process.pid), f"{process.args} stands still")


def _stands_still(pid: int) -> bool:
    states = [
        path.read_text().rpartition(")")[2].split()[0]
        for path in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return set(states) <= {"T", "t"}


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
        #: What is in its environment besides.
        self.environment: dict[str, str] = {}
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
                env={**os.environ, **self.environment},
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
        send_signal(self.process, number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
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
