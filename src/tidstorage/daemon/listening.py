"""The daemon's socket, and who has the port where it cannot be had."""

import errno
import socket
from pathlib import Path

from tidstorage.errors import DescriptionError, PortInUse

_BACKLOG = 1024
_LISTENING = "0A"


def listen(address: str, port: int) -> socket.socket:
    """A listening socket; PortInUse, or DescriptionError for a bad address."""
    try:
        family, _, _, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise DescriptionError(
            f"cannot listen on {address}: {error.strerror}"
        ) from error
    try:
        # Without this, connections of a former run block the port for minutes.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"{address}:{port} is taken{occupant(port)}",
                "Stop the program that holds it, or choose another port.",
            ) from error
        raise DescriptionError(
            f"cannot listen on {address}:{port}: {error.strerror}"
        ) from error
    listener.setblocking(False)
    return listener


def occupant(port: int) -> str:
    """`` by process N (name)``; empty where that cannot be seen."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        try:
            if str(descriptor.readlink()) in sockets:
                process = descriptor.parent.parent
                name = (process / "comm").read_text().strip()
                return f" by process {process.name} ({name})"
        except OSError:
            # Ended meanwhile, or another user's.
            continue
    return ""


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].split(":")[-1], 16) == port:
                inodes.add(fields[9])
    return inodes
