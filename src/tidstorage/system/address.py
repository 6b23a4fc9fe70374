"""Addresses of servers: read, written, and connected to."""

import re
import socket

#: (host, port), or the path of a unix socket.
Address = tuple[str, int] | str

#: Seconds in which one question has to be answered.
ANSWER_SECONDS = 3.0
_HOST_AND_PORT = re.compile(r"[^/]+:0*[1-9][0-9]*")


def address_text(address: Address) -> str:
    """``host:port``, with the brackets of IPv6, or the path of a unix socket."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(text: str) -> Address:
    """The address that a text of the right form stands for.

    The form is ``host:port``, IPv6 in brackets, or a path with a ``/`` in it.
    """
    return text if "/" in text else _split(text)


def _split(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def parse_address(text: str) -> Address:
    """The address of ``host:port``, or of the absolute path of a unix socket.

    Raises: ValueError: where the text is neither.
    """
    if text.startswith("/"):
        return text
    if _HOST_AND_PORT.fullmatch(text):
        address = _split(text)
        if address[1] < 1 << 16:
            return address
    raise ValueError(f"expected host:port or the path of a unix socket, found {text!r}")


def connect(address: Address) -> socket.socket:
    """A connection to a server, which every operation on it has 3 seconds for.

    Raises: OSError: where there is no server, or it does not accept in that time.
    """
    if not isinstance(address, str):
        return socket.create_connection(address, timeout=ANSWER_SECONDS)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def accepts(address: Address) -> bool:
    """Whether anything at all accepts connections there."""
    try:
        connect(address).close()
    except OSError:
        return False
    return True
