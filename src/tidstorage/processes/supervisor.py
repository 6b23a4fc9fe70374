"""Talks to the supervisord of a cluster, starts it and ends it."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import DescriptionError, NotReady
from tidstorage.processes import logs
from tidstorage.system import proc

#: Seconds in which supervisord has to answer a call, none of which waits.
_CALL_SECONDS = 20.0
_START_SECONDS = 20.0
_END_SECONDS = 40.0
_NOTICE_SECONDS = 10.0
_POLL_SECONDS = 0.05
#: What the kernel leaves for the path of a unix socket, less the suffix
#: ``.<pid>`` under which supervisord first makes it.
_LONGEST_SOCKET = 107 - len(".4194304")

_NOT_RUNNING = 70
_STILL_RUNNING = 91
_ALREADY_STARTED = 60


@dataclass(frozen=True, slots=True)
class Program:
    """A program as supervisor sees it; ``pid`` is 0 where there is no process."""

    name: str
    state: str
    pid: int

    @property
    def is_up(self) -> bool:
        """Running, or on the way: supervisor goes on trying."""
        return self.state in {"STARTING", "RUNNING", "BACKOFF"}


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Transport(xmlrpc.client.Transport):
    """supervisor's own transport has no timeout: a stopped one would hold us."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        self._connection = host, _Connection(self._path)
        return self._connection[1]


class Supervisor:
    """A supervisord that answers."""

    def __init__(self, cluster: Cluster) -> None:
        self._proxy = xmlrpc.client.ServerProxy(
            "http://localhost", transport=_Transport(str(cluster.supervisor_socket))
        )

    @property
    def _calls(self) -> Any:
        return self._proxy.supervisor

    def pid(self) -> int:
        """Its process id.

        Raises: OSError, http.client.HTTPException: where it does not answer.
        """
        return int(self._calls.getPID())

    def programs(self) -> dict[str, Program]:
        """{name: what it is doing}."""
        return {
            told["name"]: Program(told["name"], told["statename"], told["pid"])
            for told in self._calls.getAllProcessInfo()
        }

    def read_again(self) -> tuple[list[str], list[str], list[str]]:
        """Read its configuration again; names added, changed, and removed in it.

        Nothing is started or stopped.

        Raises: DescriptionError: where it refuses the configuration.
        """
        try:
            ((added, changed, removed),) = self._calls.reloadConfig()
        except xmlrpc.client.Fault as fault:
            raise DescriptionError(
                f"supervisord refuses its configuration: {fault.faultString}",
                "bin/buildout makes it anew from cluster.toml.",
            ) from fault
        return added, changed, removed

    def add(self, name: str) -> None:
        """Make a new program known; it is not started."""
        self._calls.addProcessGroup(name)

    def remove(self, name: str) -> None:
        """Forget a stopped program, once supervisord has noticed its end."""
        deadline = time.monotonic() + _NOTICE_SECONDS
        while True:
            try:
                self._calls.removeProcessGroup(name)
                return
            except xmlrpc.client.Fault as fault:
                # It reaps its children when it next looks round.
                if fault.faultCode != _STILL_RUNNING or time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_SECONDS)

    def start(self, name: str) -> None:
        """Begin to start a program, once it has ended where it is being stopped.

        Raises: NotReady: where its script cannot be run, or it does not end.
        """
        # Else supervisord takes the call, and starts nothing.
        deadline = time.monotonic() + _END_SECONDS
        while self._is_being_stopped(name):
            if time.monotonic() > deadline:
                raise NotReady(
                    f"{name} is still being stopped, after {_END_SECONDS:g} s",
                    "bin/cluster stop ends what does not end by itself.",
                )
            time.sleep(_POLL_SECONDS)
        try:
            self._calls.startProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _ALREADY_STARTED:
                raise NotReady(
                    f"{name} cannot be started: {fault.faultString}",
                    "Does its script exist below bin/? bin/buildout makes it.",
                ) from fault

    def _is_being_stopped(self, name: str) -> bool:
        program = self.programs().get(name)
        return program is not None and program.state == "STOPPING"

    def stop(self, name: str) -> None:
        """Begin to stop a program."""
        try:
            self._calls.stopProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _NOT_RUNNING:
                raise

    def shut_down(self) -> None:
        """Tell it to end; it answers before it does."""
        self._calls.shutdown()


def running(cluster: Cluster) -> Supervisor | None:
    """The cluster's supervisord, where one answers."""
    if not cluster.supervisor_socket.exists():
        return None
    supervised = Supervisor(cluster)
    try:
        supervised.pid()
    except (OSError, http.client.HTTPException):
        return None
    return supervised


def pids(cluster: Cluster) -> list[int]:
    """Living processes that are this cluster's supervisord, answering or not."""
    return [
        pid
        for pid in proc.all_pids()
        if proc.names(pid, [cluster.supervisor_configuration])
        and any("supervisord" in word for word in proc.command_line(pid)[:-1])
        and proc.is_alive(pid)
    ]


def begin(cluster: Cluster) -> Supervisor:
    """Start supervisord, which starts nothing by itself.

    Raises:
      NotReady: where it does not start.
      DescriptionError: where the path of its socket is too long.
    """
    _refuse_long_socket(cluster.supervisor_socket)
    end_silent(cluster)
    configuration = str(cluster.supervisor_configuration)
    # Not by PYTHONPATH, which all that it starts would inherit.
    code = (
        f"import sys; sys.path[:] = {[entry for entry in sys.path if entry]!r};"
        " from supervisor.supervisord import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", code, "-c", configuration],
        cwd=cluster.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + _START_SECONDS
    while result.returncode == 0 and time.monotonic() < deadline:
        if supervised := running(cluster):
            return supervised
        time.sleep(_POLL_SECONDS)
    log = cluster.log_directory / "supervisord.log"
    said = result.stdout.strip() or logs.last_lines([log])
    raise NotReady(f"supervisord did not start: {said}", f"Its log is {log}.")


def _refuse_long_socket(path: Path) -> None:
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise DescriptionError(
            f"{path} is too long for a unix socket ({_LONGEST_SOCKET} bytes at most)",
            "Put the cluster into a folder with a shorter path.",
        )


def end_silent(cluster: Cluster) -> None:
    """Kill a supervisord that no longer answers: it cannot be asked to end."""
    for pid in pids(cluster):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _wait_for_end(pid)


def end(cluster: Cluster) -> bool:
    """End supervisord; whether there was one."""
    supervised = running(cluster)
    if supervised is None:
        was_there = bool(pids(cluster))
        end_silent(cluster)
    else:
        was_there = True
        pid = supervised.pid()
        supervised.shut_down()
        if not _wait_for_end(pid):
            end_silent(cluster)
    # A killed one leaves its socket behind.
    cluster.supervisor_socket.unlink(missing_ok=True)
    (cluster.run_directory / "supervisord.pid").unlink(missing_ok=True)
    return was_there


def _wait_for_end(pid: int) -> bool:
    deadline = time.monotonic() + _END_SECONDS
    while proc.is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
