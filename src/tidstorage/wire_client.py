"""Ask a daemon, of any version, over the wire."""

import socket

from tidstorage import protocol
from tidstorage.errors import NotConnected

#: Seconds within which the daemon has to accept, and to answer.
TIMEOUT = 10.0


def dump(host: str, port: int, timeout: float = TIMEOUT) -> dict[str, int]:
    """The published vector; NotConnected where no daemon answers in time."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.sendall(protocol.encode_dump())
            answer = b""
            while (vector := protocol.decode_dict(answer)) is None:
                piece = connection.recv(1 << 16)
                if not piece:
                    raise NotConnected(f"{host}:{port} closed amid its answer")
                answer += piece
            return vector
    except OSError as error:
        raise NotConnected(
            f"no daemon at {host}:{port}: {error.strerror or error}",
            "Is it running? bin/cluster status tells.",
        ) from error
    except protocol.ProtocolError as error:
        raise NotConnected(
            f"what answers at {host}:{port} is no daemon: {error}"
        ) from error
