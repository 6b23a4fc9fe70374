"""Tells whether a process answers in its own protocol; an open port proves nothing."""

import contextlib
import http.client
import json
import socket
import struct

from tidstorage.processes.process import Process
from tidstorage.system.address import ANSWER_SECONDS, Address, connect
from tidstorage.wire import protocol

_LENGTH = struct.Struct(">I")


class _Silent(Exception):
    """The process does not answer as it should; the text says how."""


def not_ready(process: Process) -> str | None:
    """Ask a process; None where it answers, else what it does instead, in words."""
    try:
        if process.kind == "zeo":
            _ask_zeo(process)
        elif process.kind == "daemon":
            _ask_daemon(process.address)
        else:
            _ask_zope(process.address)
    except _Silent as silence:
        return str(silence)
    except TimeoutError:
        return f"{process.address_text} does not answer within {ANSWER_SECONDS:g} s"
    except OSError as error:
        return f"{process.address_text}: {error.strerror or error}"
    return None


def _ask_zeo(process: Process) -> None:
    """Send ZEO's ``ruok``, which is answered by the one thread that serves requests."""
    with contextlib.closing(connect(process.address)) as connection:
        connection.sendall(_LENGTH.pack(4) + b"ruok")
        _receive_message(connection)  # the protocol it speaks
        answer = _receive_message(connection)
    try:
        served = set(json.loads(answer))
    except (ValueError, TypeError) as error:
        raise _Silent(f"{process.address_text} is not a ZEO server: {error}") from error
    if missing := sorted(set(process.storages) - served):
        raise _Silent(f"{process.address_text} does not serve {', '.join(missing)}")


def _receive_message(connection: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
    return _receive(connection, length)


def _receive(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        more = connection.recv(min(length - len(data), 65536))
        if not more:
            raise _Silent("the connection was closed without an answer")
        data += more
    return bytes(data)


def _ask_daemon(address: Address) -> None:
    with contextlib.closing(connect(address)) as connection:
        connection.sendall(protocol.encode_dump())
        answer = b""
        while True:
            more = connection.recv(65536)
            if not more:
                raise _Silent("the connection was closed without an answer")
            answer += more
            try:
                tids = protocol.decode_dict(answer)
            except ValueError as error:
                raise _Silent(f"the answer to DUMP is none: {error}") from error
            if tids is not None:
                return


def _ask_zope(address: Address) -> None:
    """Ask for a page: any answer will do, since it comes once Zope has loaded all."""
    assert not isinstance(address, str)
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except http.client.HTTPException as error:
            raise _Silent(f"the answer is not HTTP: {error!r}") from error
