"""Connections: bytes from a socket to the wire's coherency, and answers back."""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from tidstorage.coherence.messages import WireCoherency
from tidstorage.daemon.coverage import Coverage
from tidstorage.errors import DescriptionError, PortInUse
from tidstorage.system import proc
from tidstorage.wire import protocol

logger = logging.getLogger(__name__)

#: Bytes read at once from one connection.
_PIECE = 1 << 14
#: What only a process says that stamps its transactions.
_OF_COMMITS = protocol.Begin | protocol.Commit


class Answers:
    """What the commands of all connections are answered from.

    published: gives the vector that DUMP shows; it is asked anew only when
    ``changed`` was called.  state: gives the answer to STATUS.
    """

    def __init__(
        self,
        wire: WireCoherency,
        published: Callable[[], Mapping[str, int]],
        on_messages: Callable[[], None],
        coverage: Coverage,
        state: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.wire = wire
        self.coverage = coverage
        self.state = state
        self.on_messages = on_messages
        self.connections: set[Connection] = set()
        self._published = published
        self._dump: bytes | None = None
        # One for all connections: each piece is parsed before the next is read.
        # A small one, so that a peer in a hurry does not keep others waiting.
        self.buffer = memoryview(bytearray(_PIECE))

    def changed(self) -> None:
        """Something else is published than before."""
        self._dump = None

    def dump(self) -> bytes:
        """The answer to DUMP."""
        if self._dump is None:
            self._dump = protocol.encode_dict(self._published())
        return self._dump


class Connection(asyncio.BufferedProtocol):
    """One peer.  What a piece of its stream asks is answered in one write."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._parser = protocol.Parser()
        self._transport: asyncio.Transport | None = None
        self._peer: object = None
        self._process: protocol.Hello | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        # asyncio switches Nagle's delay off by itself.
        self._transport = transport
        self._peer = transport.get_extra_info("peername")
        self._answers.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._answers.connections.discard(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._answers.buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            commands = self._parser.feed(bytes(self._answers.buffer[:nbytes]))
        except protocol.ProtocolError as error:
            self._obey(error.commands)
            logger.warning("%s: closed: %s", self._peer, error)
            self.close()
            return
        self._obey(commands)

    def _obey(self, commands: list[protocol.Command]) -> None:
        wire = self._answers.wire
        now = time.monotonic()
        replies = []
        version = wire.version
        for command in commands:
            if isinstance(command, protocol.Begin):
                wire.begin(*command, now)
            elif isinstance(command, protocol.Commit):
                wire.commit(*command, now)
            elif isinstance(command, protocol.Abort):
                wire.abort(*command)
            elif isinstance(command, protocol.Dump):
                if wire.version != version:
                    version = wire.version
                    self._answers.changed()
                replies.append(self._answers.dump())
            elif isinstance(command, protocol.Hello):
                self._process = command
            elif isinstance(command, protocol.Status):
                replies.append(protocol.encode_state(self._answers.state()))
            elif isinstance(command, protocol.Bootstraped):
                replies.append(protocol.encode_truth(wire.bootstrapped))
            else:
                self._write(replies)
                self.close()
                break
        else:
            self._write(replies)
        if self._process is not None:
            told = [c.transaction_id for c in commands if isinstance(c, _OF_COMMITS)]
            if told:
                self._answers.coverage.heard(self._process, told)
        self._answers.on_messages()

    def _write(self, replies: list[bytes]) -> None:
        assert self._transport is not None
        if replies and not self._transport.is_closing():
            self._transport.write(b"".join(replies))

    def pause_writing(self) -> None:
        # A peer that asks and does not read must not fill our memory.
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Send what is answered already, then close."""
        assert self._transport is not None
        self._transport.close()


_BACKLOG = 1024


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
                f"{address}:{port} is taken by"
                f" {proc.find_listener((address, port)) or 'what has just ended'}",
                "Stop the program that holds it, or choose another port.",
            ) from error
        raise DescriptionError(
            f"cannot listen on {address}:{port}: {error.strerror}"
        ) from error
    listener.setblocking(False)
    return listener
