"""The daemon's socket, and which program has the port where it cannot be had."""

import errno
import socket

from tidstorage.errors import DescriptionError, PortInUse
from tidstorage.system import proc

#: Connections that may wait to be accepted: after a restart all Zopes come at once.
_BACKLOG = 1024


def listen(address: str, port: int) -> socket.socket:
    """A socket that listens, and does not block.

    address: a host name or an IP address.  port: 0 means any.

    Raises:
      PortInUse: where another program has the port; the text names it.
      DescriptionError: where the address cannot be listened on.
    """
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
                f"{address}:{port} is taken by"
                f" {proc.find_listener((address, port)) or 'what has just ended'}",
                "Stop the program that holds it, or choose another port.",
            ) from error
        raise DescriptionError(
            f"cannot listen on {address}:{port}: {error.strerror}"
        ) from error
    listener.setblocking(False)
    return listener
