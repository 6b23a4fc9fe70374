"""The transactions of one Data.fs, live or at rest, forward and backward.

Everything is read through one descriptor, because a pack puts another file in
the place of this one, and with ``pread``, while a server may go on writing.
ZODB's own FileIterator raises on a file that is being written.

Only what stands before the first byte of an unfinished transaction is ever
given out: those bytes never change again.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from zodbpickle import pickle  # type: ignore[import-untyped]

from tidstorage.engines import End
from tidstorage.engines.filestorage.format import (
    DATA_HEADER,
    FINISHED,
    HEADER,
    MAGICS,
    START,
    TRAILER,
    TRANSACTION_POSITION,
    VOTED,
    Transaction,
    Window,
)
from tidstorage.errors import FileUnreadable

#: So many transactions without data, linked backward, prove a boundary.
_LINKS = 16


class DataFile:
    """A Data.fs that is open for reading; a context manager.

    A file without a byte is an empty storage: FileStorage writes the magic a moment
    later.

    Raises: FileUnreadable: where the file is missing or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise FileUnreadable(f"{path}: {error.strerror}") from error
        try:
            magic = os.pread(self.descriptor, START, 0)
        except OSError as error:
            self.close()
            raise FileUnreadable(f"{path}: {error.strerror}") from error
        if magic and magic not in MAGICS:
            self.close()
            raise FileUnreadable(
                f"{path} is not a FileStorage's: it starts with {magic!r}"
            )

    def __enter__(self) -> "DataFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)

    def size(self) -> int:
        """The length of the file at this moment, in bytes."""
        return os.fstat(self.descriptor).st_size

    def forward(self, position: int = START) -> Iterator[Transaction]:
        """Finished transactions from a boundary on, up to where `end` says.

        Raises: FileUnreadable: where the file is broken and more follows.
        """
        window = Window(self.descriptor)
        while True:
            record = self._finished_at(window, position)
            if record is not None:
                yield record
                position = record.end
            elif self.what_stops_at(position) is not None:
                return
            else:
                window.forget()

    def ascending(self, position: int, after: int) -> Iterator[Transaction]:
        """Finished transactions from a boundary on, whose TIDs have to rise.

        Files of long ago have places where they do not; what is cut must not.

        Raises: FileUnreadable: where a TID is not above the one before, or above
            ``after``; and as `forward`.
        """
        for transaction in self.forward(position):
            if transaction.tid <= after:
                raise FileUnreadable(
                    f"{self.path}: TIDs go backwards at byte {transaction.position}"
                )
            after = transaction.tid
            yield transaction

    def backward(self, end: int | None = None) -> Iterator[Transaction]:
        """Finished transactions, the last one first; from a boundary, if given."""
        window = Window(self.descriptor, backward=True)
        position = self.last_boundary() if end is None else end
        while position > START:
            start = self._start_before(window, position)
            record = start and self._finished_at(window, start)
            if not record:
                raise FileUnreadable(
                    f"{self.path} is broken: no transaction ends at byte {position}"
                )
            yield record
            position = record.position

    def _finished_at(self, window: Window, position: int) -> Transaction | None:
        header = window.read(position, HEADER.size)
        if len(header) < HEADER.size:
            return None
        tid, length, status, user, description, extension = HEADER.unpack(header)
        described = HEADER.size + user + description
        if status not in FINISHED or length < described + extension:
            return None
        raw = window.read(position + described, extension) if extension else b""
        window.expect(length)
        if window.read(position + length, TRAILER.size) != header[8:16]:
            return None
        end = position + length + TRAILER.size
        return Transaction(tid, position, end, status.decode(), raw)

    def _start_before(self, window: Window, end: int) -> int | None:
        """Where a transaction starts that may end at ``end``."""
        if end < START + HEADER.size + TRAILER.size:
            return None
        trailer = window.read(end - TRAILER.size, TRAILER.size)
        if len(trailer) < TRAILER.size:
            return None
        (length,) = TRAILER.unpack(trailer)
        start = end - TRAILER.size - length
        return start if start >= START and length >= HEADER.size else None

    def what_stops_at(self, position: int) -> End | None:
        """Why no finished transaction is at a boundary; None when one is there.

        Raises: FileUnreadable: where something is there that was never a transaction.
        """
        # Looked for first: while a server writes, nothing finished can stand
        # behind what is unfinished *after* that.
        behind = self._last_finished()
        window = Window(self.descriptor)
        if self._finished_at(window, position) is not None:
            return None
        size = self.size()
        header = window.read(position, HEADER.size)
        if len(header) < HEADER.size:
            return End(position, size, "torn" if header else "clean")
        _, length, status, *lengths = HEADER.unpack(header)
        end = position + length + TRAILER.size
        plausible = status in FINISHED + VOTED and length >= HEADER.size + sum(lengths)
        if not (behind is not None and behind > position):
            if status == VOTED and plausible:
                return End(position, size, "voted")
            if plausible and end >= size:
                return End(position, size, "torn")
            if self._only_zeros(header, position, size):
                # A power cut leaves the length of a write without its bytes.
                return End(position, size, "torn")
        raise FileUnreadable(
            f"{self.path} is broken at byte {position}, and more follows behind it",
            "ZODB's fstest tells more; restore this file from a backup set.",
        )

    def _only_zeros(self, header: bytes, position: int, size: int) -> bool:
        if header.strip(b"\0"):
            return False
        window = Window(self.descriptor)
        stretch = 1024 * 1024
        return not any(
            window.read(start, stretch).strip(b"\0")
            for start in range(position, size, stretch)
        )

    def _last_finished(self) -> int | None:
        """Where the finished transaction starts that ends the file, if one does."""
        window = Window(self.descriptor)
        size = self.size()
        start = self._start_before(window, size)
        if start is None or not self.is_boundary(size):
            return None
        return start if self._finished_at(window, start) else None

    def is_boundary(self, end: int) -> bool:
        """Whether a transaction ends there, finished or voted.

        The trailing length alone may be anybody's bytes.  A data record names
        the position of its transaction, which bytes that were stored as data
        (another Data.fs, say) cannot have right.
        """
        window = Window(self.descriptor, backward=True)
        for _ in range(_LINKS):
            if end == START:
                return True
            start = self._start_before(window, end)
            if start is None:
                return False
            header = window.read(start, HEADER.size)
            if len(header) < HEADER.size:
                return False
            _, length, status, *lengths = HEADER.unpack(header)
            described = HEADER.size + sum(lengths)
            if status not in FINISHED + VOTED or start + length != end - TRAILER.size:
                return False
            if described + DATA_HEADER.size <= length:
                data = window.read(start + described, DATA_HEADER.size)
                return data[TRANSACTION_POSITION] == TRAILER.pack(start)
            if described != length:
                return False
            end = start
        return True

    def last_boundary(self) -> int:
        """Where the finished transactions end: `End.position`.

        Found backward; where a vote or a crash left the file's end unfinished,
        forward from what the index knows, else from the file's start.
        """
        size = self.size()
        if size <= START:
            return START
        if self.is_boundary(size):
            window = Window(self.descriptor)
            start = self._start_before(window, size)
            if start is None:
                # A server has cut a vote off meanwhile, and others have begun.
                return self._boundary_forward()
            if self._finished_at(window, start):
                return size
            if self.is_boundary(start) and window.read(start + 16, 1) == VOTED:
                return start
        return self._boundary_forward()

    def _boundary_forward(self) -> int:
        position = self._indexed_boundary()
        for record in self.forward(position):
            position = record.end
        return position

    def _indexed_boundary(self) -> int:
        """The end of the file when its index was saved; its start otherwise."""
        try:
            with self.path.with_name(self.path.name + ".index").open("rb") as stream:
                position = pickle.Unpickler(stream).load()
        except (OSError, pickle.UnpicklingError, EOFError, ValueError):
            return START
        if isinstance(position, int) and START <= position <= self.size():
            window = Window(self.descriptor)
            start = self._start_before(window, position)
            if (
                start
                and self._finished_at(window, start)
                and self.is_boundary(position)
            ):
                return position
        return START

    def boundary_after(self, tid: int) -> int:
        """The first byte behind the last transaction at or below ``tid``."""
        last = next(self.backward(), None)
        # Before anything else: in files of long ago TIDs may go backwards.
        if last is None or last.tid <= tid:
            return last.end if last else START
        first = next(self.forward(), None)
        if first is None or first.tid > tid:
            return START
        return next(kept.end for kept in self.backward() if kept.tid <= tid)

    def tid_at(self, position: int) -> int:
        """The TID of the transaction that begins there, finished or voted."""
        tid: int = HEADER.unpack(os.pread(self.descriptor, HEADER.size, position))[0]
        return tid

    def end(self) -> End:
        """Where the finished transactions end at this moment, and why there."""
        while True:
            # A server may finish one between the two.
            end = self.what_stops_at(self.last_boundary())
            if end is not None:
                return end
