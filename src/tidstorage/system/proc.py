"""What /proc tells: which processes are ours, and which one listens at an address.

A pid file alone proves nothing: after a crash its number is nobody's, or that of
another process.  A process is ours if it runs one of our scripts, or was started with
one of our configuration files.
"""

import contextlib
import datetime
import itertools
import os
import random
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidstorage.system.address import Address

_PROC = Path("/proc")
_LISTENING = "0A"
_OUTGOING_PORTS = _PROC / "sys/net/ipv4/ip_local_port_range"
_FREE_PORTS = range(15000, 65000)
#: Interpreter, an option or two, and then the script.
SCRIPT_WITHIN = 4


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens at an address; ``pid`` is None where we may not see it."""

    pid: int | None
    command: str

    def __str__(self) -> str:
        if self.pid is None:
            return self.command
        return f"process {self.pid}: {self.command}"


def command_line(pid: int) -> list[str]:
    """The arguments of a living process; empty where there is none."""
    try:
        return (
            (_PROC / str(pid) / "cmdline")
            .read_bytes()
            .decode(errors="surrogateescape")
            .split("\0")[:-1]
        )
    except OSError:
        return []


def environment(pid: int) -> dict[str, str]:
    """What the process was started with; empty where we may not see it."""
    try:
        content = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = content.decode(errors="surrogateescape").split("\0")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def working_folder(pid: int) -> Path | None:
    """The folder the process is in; None where we may not see it."""
    try:
        return (_PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        status = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def begun(pid: int) -> datetime.datetime | None:
    """When the process began, aware, in UTC; None where there is none."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace")
        ticks = int(fields.rpartition(")")[2].split()[19])
        uptime = float((_PROC / "uptime").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return None
    age = uptime - ticks / os.sysconf("SC_CLK_TCK")
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)


def all_pids() -> Iterator[int]:
    """Every process there is, ourselves excepted."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            yield int(entry.name)


def runs(pid: int, script: Path) -> bool:
    """Whether the process runs the script, as its interpreter's first argument."""
    arguments = command_line(pid)[:SCRIPT_WITHIN]
    return any(_is(pid, argument, script) for argument in arguments)


def names(pid: int, files: Collection[Path]) -> bool:
    """Whether one of the files is an argument of the process."""
    arguments = command_line(pid)
    return any(_is(pid, argument, file) for argument in arguments for file in files)


def _is(pid: int, argument: str, file: Path) -> bool:
    if argument.rpartition("/")[2] != file.name:
        return False
    folder = working_folder(pid) or Path("/")
    return (folder / argument).resolve() == file.resolve()


def pid_in(pid_file: Path) -> int | None:
    """The number in a pid file, whoever bears it now; None where there is none."""
    try:
        return int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def find_listener(address: Address) -> Listener | None:
    """The process that listens at the address; None where a server of ours could."""
    if isinstance(address, str):
        return _find_listener_of_path(address)
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        # As servers do: a connection that ended a moment ago is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return _find_listener(port) or Listener(None, os.strerror(error.errno or 0))
    return None


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback address at which nobody listens now.

    Where there are enough, they are none of those that the kernel gives to outgoing
    connections: a server that is down could find its port taken by one of these.
    """
    first, last = map(int, _OUTGOING_PORTS.read_text().split())
    outside = [port for port in _FREE_PORTS if not first <= port <= last]
    candidates = outside or list(_FREE_PORTS)
    random.SystemRandom().shuffle(candidates)
    free = (port for port in candidates if find_listener(("127.0.0.1", port)) is None)
    return list(itertools.islice(free, count))


def _find_listener_of_path(path: str) -> Listener | None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except OSError:
            return None
    inodes = {
        fields[6] for fields in _table("unix") if len(fields) > 7 and fields[7] == path
    }
    return _find_owner(inodes) or Listener(None, "an unknown process")


def _find_listener(port: int) -> Listener | None:
    """Who listens on the port, at whatever address of this machine."""
    inodes = set()
    user = ""
    for fields in [*_table("tcp"), *_table("tcp6")]:
        local, state = fields[1], fields[3]
        if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
            inodes.add(fields[9])
            user = fields[7]
    if not inodes:
        return None
    return _find_owner(inodes) or Listener(None, f"a process of user id {user}")


def _table(name: str) -> list[list[str]]:
    try:
        lines = (_PROC / "net" / name).read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.split() for line in lines[1:]]


def _find_owner(inodes: Collection[str]) -> Listener | None:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in all_pids():
        with contextlib.suppress(OSError):
            for descriptor in (_PROC / str(pid) / "fd").iterdir():
                if str(descriptor.readlink()) in wanted:
                    return Listener(pid, " ".join(command_line(pid)))
    return None
