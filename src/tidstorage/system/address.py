"""Addresses of servers: read, written, and tried."""

import socket

#: (host, port), or the path of a unix socket.
Address = tuple[str, int] | str


def address_text(address: Address) -> str:
    """``host:port``, with the brackets of IPv6, or the path of a unix socket."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(text: str) -> tuple[str, int] | str:
    """(host, port) of a HOST:PORT, without the brackets of IPv6; else the path."""
    if "/" in text:
        return text
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def parse_address(text: str) -> Address:
    """``host:port`` or the absolute path of a unix socket; else ValueError."""
    if text.startswith("/"):
        return text
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError(
            f"expected host:port or the path of a unix socket, found {text!r}"
        )
    return host.strip("[]"), int(port)


#: Seconds in which one question has to be answered.
ANSWER_SECONDS = 3.0


def accepts(address: Address) -> bool:
    """Whether anything at all accepts connections there."""
    try:
        _connect(address).close()
    except OSError:
        return False
    return True


def _connect(address: Address) -> socket.socket:
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
