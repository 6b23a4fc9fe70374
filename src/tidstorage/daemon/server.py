"""Connections: bytes from a socket to the wire's coherency, and answers back."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from tidstorage.coherence.messages import WireCoherency
from tidstorage.daemon.writers import Writers
from tidstorage.wire import protocol

logger = logging.getLogger(__name__)

#: Bytes read at once from one connection.
_PIECE = 1 << 14
#: What only a process says that stamps its transactions.
_OF_COMMITS = protocol.Begin | protocol.Commit


class Answers:
    """What all connections answer from, and whom they tell.

    wire: gets the messages of commits.
    published: gives the vector that DUMP shows; it is asked anew only when
        ``changed`` was called.
    on_messages: is called after each piece of a stream.
    writers: hears which process told of which commits.
    state: gives the answer to STATUS.
    """

    def __init__(
        self,
        wire: WireCoherency,
        published: Callable[[], Mapping[str, int]],
        on_messages: Callable[[], None],
        writers: Writers,
        state: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.wire = wire
        self.writers = writers
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
            logger.warning("connection from %s closed: %s", self._peer, error)
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
                self._answers.writers.hear(self._process, told)
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
