"""Tell the daemon of commits without ever waiting for it.

Committing threads put messages into a bounded queue, which takes microseconds
and waits for no lock; one thread sends them.  They are hints: the daemon reads what
it missed from the storages.  When the queue is full, whole new transactions are left
out, so that no BEGIN goes without its end.

Finalizers and signal handlers commit too, between any two instructions of ours.  So
what is called in their threads uses SimpleQueue, which is made for that, and a lock
that is only ever tried; no Event or Condition, whose own lock is waited for.
"""

import contextlib
import logging
import os
import queue
import select
import socket
import threading
import time
import weakref

from tidstorage.wire import protocol

logger = logging.getLogger(__name__)

Message = protocol.Begin | protocol.Commit | protocol.Abort
#: Messages that may wait before new transactions are left out.
QUEUE_LENGTH = 10_000
#: Seconds until an attempt to connect, to send, or to be answered is given up.
TIMEOUT = 5.0
#: Seconds between attempts to connect: first and longest pause.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
#: Seconds in which messages gather, so that one system call sends many.
GATHERING = 0.002
_BATCH = 500


class Sender:
    """The queue, and the thread that empties it towards one address.

    name: what the daemon is told that this process is called.
    """

    def __init__(
        self,
        address: tuple[str, int],
        queue_length: int = QUEUE_LENGTH,
        name: str = "",
    ) -> None:
        self._address = address
        self._name = name
        self._queue_length = queue_length
        self._sent = 0
        self._dropped = 0
        self._reset()
        _senders.add(self)

    def _reset(self) -> None:
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        # Something is put here to end the thread's pauses.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._socket: socket.socket | None = None
        self._lost = False
        self._pause = FIRST_PAUSE

    # Called in committing threads; none of these waits for anything.

    def begin(self, transaction_id: str, storages: tuple[str, ...]) -> bool:
        """Announce a commit; False where it is left out, and with it its end."""
        if self._queue.qsize() >= self._queue_length:
            self._dropped += 1
            return False
        self._put(protocol.Begin(transaction_id, storages))
        return True

    def commit(self, transaction_id: str, tids: dict[str, int]) -> None:
        """End a transaction that ``begin`` took; {storage id: TID as int}."""
        self._put(protocol.Commit(transaction_id, tids))

    def abort(self, transaction_id: str) -> None:
        """End a transaction that ``begin`` took: nothing was written."""
        self._put(protocol.Abort(transaction_id))

    def _put(self, message: Message) -> None:
        self._queue.put(message)
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            # Whoever holds it is about to start the thread, which will find the
            # message.  It may be this very thread, interrupted in the midst of it.
            return
        try:
            if self._thread is None and not self._is_closing:
                thread = threading.Thread(
                    target=self._run, name="tidstorage-sender", daemon=True
                )
                # Known before it runs: should it die at once, it is the one to say
                # so, and the next message starts another.
                self._thread = thread
                try:
                    thread.start()
                except BaseException:
                    self._thread = None
                    raise
        finally:
            self._starting.release()

    # Called anywhere.

    def statistics(self) -> dict[str, int]:
        """Messages sent, transactions left out, whether the daemon answers."""
        connected = self._socket is not None
        return {
            "sent": self._sent,
            "dropped": self._dropped,
            "connected": int(connected),
        }

    def close(self, deadline: float) -> None:
        """End the thread; what waits is sent where that takes few seconds."""
        self._is_closing = True
        thread = self._thread
        self._queue.put(None)
        self._wake.put(None)
        # A finalizer may run in the sending thread too.
        if thread is not None and thread is not threading.current_thread():
            thread.join(deadline)

    # Called in the sending thread only.

    def _run(self) -> None:
        try:
            while not (self._is_closing and self._queue.empty()):
                batch = self._gather()
                if batch and not self._deliver(batch):
                    self._dropped += len(batch)
        finally:
            self._disconnect()
            # After a defect of ours the next message starts another thread.
            self._thread = None

    def _gather(self) -> list[Message]:
        """At least one message, unless the sender is closing."""
        first = self._queue.get()
        if not self._is_closing:
            time.sleep(GATHERING)
        batch = [first]
        while len(batch) < _BATCH:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return [message for message in batch if message is not None]

    def _deliver(self, batch: list[Message]) -> bool:
        """Send it, over a new connection where needed; False at closing time.

        A connection that breaks may have taken part of the batch; the whole is
        sent again then, since no message does harm twice.
        """
        data = b"".join(map(_encode, batch))
        while not (self._lost and self._is_closing):
            try:
                if self._socket is None:
                    self._connect()
                self._send(data)
            except OSError as error:
                self._note_lost(error)
            else:
                self._sent += len(batch)
                self._pause = FIRST_PAUSE
                return True
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return False

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        if select.select([self._socket], [], [], 0)[0] and not self._socket.recv(4096):
            raise ConnectionResetError("closed by the daemon")
        self._socket.sendall(data)

    def _connect(self) -> None:
        """Connect, and make sure that somebody answers.

        The kernel accepts connections for a daemon that is stopped; without the
        question each attempt would seem to bring it back.
        """
        connection = socket.create_connection(self._address, TIMEOUT)
        try:
            connection.settimeout(TIMEOUT)
            connection.sendall(protocol.encode_bootstraped())
            if not connection.recv(16):
                raise ConnectionResetError("closed by the daemon")
            connection.sendall(protocol.encode_hello(self._process()))
        except OSError:
            connection.close()
            raise
        self._socket = connection
        if self._lost:
            self._lost = False
            logger.warning("the daemon at %s:%d is back", *self._address)

    def _process(self) -> protocol.Hello:
        return protocol.Hello(self._name, socket.gethostname(), os.getpid())

    def _note_lost(self, error: OSError) -> None:
        self._disconnect()
        if not self._lost:
            self._lost = True
            logger.warning(
                "the daemon at %s:%d cannot be told of commits (%s); they go on,"
                " and it will read them from the storages",
                *self._address,
                error,
            )

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _encode(message: Message) -> bytes:
    match message:
        case protocol.Begin(transaction_id, storages):
            return protocol.encode_begin(transaction_id, storages)
        case protocol.Commit(transaction_id, tids):
            return protocol.encode_commit(transaction_id, tids)
        case protocol.Abort(transaction_id):
            return protocol.encode_abort(transaction_id)


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The thread did not come along, its queue may be locked, and its connection
    # is the parent's: close() only gives up this process's descriptor.
    for sender in list(_senders):
        sender._disconnect()
        sender._reset()


os.register_at_fork(after_in_child=_after_fork_in_child)
