"""Programs of a round: killed, stopped and started again.

Most are forked from a process that has imported everything already, since a round
would else be spent on imports.  What runs in them is the program's own ``main``.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tidstorage.system import child

_FORKED = (
    "torture.client",
    "ZEO.runzeo",
    "ZODB.FileStorage",
    "tidstorage.commands.scripts.serve",
    "tidstorage.commands.scripts.daemon",
    "tidstorage.daemon.publishing",
    "tidstorage.commands.cluster",
    "tidstorage.commands.backup",
    "tidstorage.commands.damage",
    "tidstorage.commands.rebase",
    "tidstorage.verbs.damage.undo",
)
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([*_FORKED])


class Forked:
    """A function in a process of its own."""

    def __init__(self, target: Callable[..., object], *arguments: Any) -> None:
        self._process = _forks.Process(target=target, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def runs(self) -> bool:
        return self._process.is_alive()

    def wait(self, seconds: float) -> int:
        """Its exit status, negative for a signal."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"{self._process} does not end"
        return self._process.exitcode


class _Executed(subprocess.Popen[bytes]):
    """The same, of a program that was executed."""

    def runs(self) -> bool:
        return self.poll() is None


def _run(module: str, arguments: Sequence[str], folder: Path, output: Path) -> None:
    os.chdir(folder)
    written = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for each in (sys.stdout, sys.stderr):
        os.dup2(written, each.fileno())
    sys.argv = [module, *arguments]
    sys.exit(importlib.import_module(module).main([*arguments]))


def fork(module: str, arguments: Sequence[str], folder: Path, output: Path) -> Forked:
    """``python -m module arguments``, what it prints appended to ``output``."""
    return Forked(_run, module, arguments, folder, output)


def execute(command: Sequence[str], folder: Path, output: Path) -> _Executed:
    """The same for a command line."""
    with output.open("ab") as stream:
        return _Executed(
            command,
            cwd=folder,
            env=child.environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )


class Process:
    """One program of the site; ``lock``: one event at a time.

    program: starts it.
    """

    def __init__(self, name: str, program: Callable[[Path], Any], folder: Path) -> None:
        self.name = name
        self.lock = threading.Lock()
        self._output = folder / f"{name}.output"
        self._program = program
        self._process: Any = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        self._process = self._program(self._output)

    def runs(self) -> bool:
        return self._process is not None and self._process.runs()

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._wait()

    def end(self) -> None:
        """TERM, as an operator would."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        self._wait()

    def _wait(self) -> None:
        if self._process is not None:
            self._process.wait(30)
            self._process = None
