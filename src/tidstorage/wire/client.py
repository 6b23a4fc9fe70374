"""Questions to a daemon of any version, over the wire."""

import json
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from tidstorage.errors import NotConnected
from tidstorage.wire import protocol

T = TypeVar("T")

#: Seconds within which the daemon has to accept, and to go on with its answer.
TIMEOUT = 10.0


def dump(host: str, port: int, timeout: float = TIMEOUT) -> dict[str, int]:
    """The vector that the daemon publishes: {storage id: TID}.

    timeout: seconds for connecting, and for each piece of the answer.

    Raises: NotConnected: where no daemon answers in time.
    """
    return _ask(host, port, timeout, protocol.encode_dump(), protocol.decode_dict)


def state(host: str, port: int, timeout: float = TIMEOUT) -> dict[str, Any]:
    """How the daemon is, as ``STATUS`` tells; empty where it is too old to tell.

    timeout: as for `dump`.

    Raises: NotConnected: where no daemon answers in time.
    """
    # What an old one drops goes before a question that it answers.
    questions = protocol.encode_status() + protocol.encode_bootstraped()
    return _ask(host, port, timeout, questions, _decode_state)


def _decode_state(data: bytes) -> dict[str, Any] | None:
    line, end, _ = data.partition(b"\n")
    if not end:
        return None
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise protocol.ProtocolError(f"not a state: {line[:60]!r}") from error
    return answer if isinstance(answer, dict) else {}


def _ask(
    host: str,
    port: int,
    timeout: float,
    question: bytes,
    decode: Callable[[bytes], T | None],
) -> T:
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.sendall(question)
            answer = b""
            while (decoded := decode(answer)) is None:
                piece = connection.recv(1 << 16)
                if not piece:
                    raise NotConnected(f"{host}:{port} closed amid its answer")
                answer += piece
            return decoded
    except OSError as error:
        raise NotConnected(
            f"no daemon at {host}:{port}: {error.strerror or error}",
            "Is it running? bin/cluster status tells.",
        ) from error
    except protocol.ProtocolError as error:
        raise NotConnected(
            f"what answers at {host}:{port} is no daemon: {error}"
        ) from error
