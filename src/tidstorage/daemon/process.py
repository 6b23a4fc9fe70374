"""The daemon as a process: its pid file, and going into the background."""

import fcntl
import os
import sys
from pathlib import Path

from tidstorage.errors import Locked, TidstorageError


class PidFile:
    """A file with the process id, locked for as long as the process lives.

    The lock, not the number, tells whether another daemon runs: a file that a crash
    left is taken over.

    Raises:
      Locked: where another daemon runs.
      OSError: where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        while True:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                number = os.read(self._descriptor, 20).decode(errors="replace").strip()
                os.close(self._descriptor)
                raise Locked(
                    f"{path}: the daemon runs already, as process {number or '?'}",
                    "Stop it first, or give this one another pid file.",
                ) from None
            if self._is_at_path():
                break
            # A daemon that was ending removed the file between the two calls.
            os.close(self._descriptor)

    def _is_at_path(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def write(self) -> None:
        """Write this process's id."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def remove(self) -> None:
        """Remove the file and give up the lock."""
        if self._is_at_path():
            self.path.unlink()
        os.close(self._descriptor)


def into_background(pid_file: PidFile | None) -> None:
    """Go on in a new process without a terminal; the caller's process ends here.

    It ends only when the new one has written its pid, so that whoever started us can
    rely on the file.  Everything that can fail has to be done before this.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(writer)
        started = os.read(reader, 1) == b"1"
        os._exit(0 if started else TidstorageError.exit_status)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(reader)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    if nothing > 2:
        os.close(nothing)
    if pid_file is not None:
        pid_file.write()
    os.write(writer, b"1")
    os.close(writer)
