"""Wire protocol, version 1: what peers of the daemon say and hear.

Bytes in, commands out, and back; no sockets here.  A field ends with a line
feed; carriage returns are dropped; every other byte is data; nothing is
escaped.  A list is its length, then its fields.  A dict is its length, the
keys, then the values (decimal integers).

``BEGIN`` id, list of storages; ``ABORT`` id; ``COMMIT`` id, dict of storage to
TID: no answer.  ``DUMP`` is answered by a dict, ``BOOTSTRAPED`` by ``1`` or
``0``; after ``QUIT`` the server closes.  Commands are understood in any case.

Added since, and dropped by older daemons: ``HELLO`` and one field tells which
process speaks, a JSON object, so that its argument looks like no command;
``STATUS`` is answered by one field, a JSON object.

A field that stands where a command is expected and names none is dropped
alone: what its sender meant as its arguments is then read as commands too.
That is how peers of version 1 always behaved, so a new command must not have
arguments that look like commands.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

#: Default TCP port of the daemon.
DEFAULT_PORT = 9001
#: What one unfinished command may hold; a peer that sends more is not one of ours.
LONGEST_COMMAND = 1 << 20
LONGEST_LIST = 10_000
_LONGEST_NUMBER = 20


class ProtocolError(ValueError):
    """What a peer sent cannot be understood; the connection is of no more use.

    ``commands`` came before, in the same piece of the stream, and count.
    """

    def __init__(self, what: str, commands: "list[Command] | None" = None) -> None:
        super().__init__(what)
        self.commands = commands or []


class _NoCommand(Exception):
    """A field has a command's name by chance: peers of version 1 may say it."""


class Begin(NamedTuple):
    """A transaction starts to commit; ``storages``: ids of those it will write."""

    transaction_id: str
    storages: tuple[str, ...]


class Abort(NamedTuple):
    """A transaction ended without writing anything."""

    transaction_id: str


class Commit(NamedTuple):
    """A transaction is written; ``tids``: {storage id: its TID there}."""

    transaction_id: str
    tids: Mapping[str, int]


class Dump(NamedTuple):
    """Tell what is published."""


class Bootstraped(NamedTuple):
    """Tell whether anything can be visible yet (the spelling is the wire's)."""


class Quit(NamedTuple):
    """Close the connection."""


class Hello(NamedTuple):
    """The process that speaks; ``name`` is a Zope's of the description, or empty."""

    name: str
    host: str
    pid: int


class Status(NamedTuple):
    """Tell how the daemon is."""


Command = Begin | Abort | Commit | Dump | Bootstraped | Quit | Hello | Status


def encode_begin(transaction_id: str, storages: Collection[str]) -> bytes:
    """The bytes of a BEGIN.

    Raises: ValueError: where no field can hold an id, as in all encoders.
    """
    return b"".join(
        (
            b"BEGIN\n",
            _field(transaction_id),
            b"%d\n" % len(storages),
            *map(_field, storages),
        )
    )


def encode_abort(transaction_id: str) -> bytes:
    return b"ABORT\n" + _field(transaction_id)


def encode_commit(transaction_id: str, tids: Mapping[str, int]) -> bytes:
    """``tids`` is {storage id: TID as int}."""
    return b"COMMIT\n" + _field(transaction_id) + encode_dict(tids)


def encode_dump() -> bytes:
    return b"DUMP\n"


def encode_bootstraped() -> bytes:
    return b"BOOTSTRAPED\n"


def encode_hello(process: Hello) -> bytes:
    return b"HELLO\n" + encode_state(process._asdict())


def encode_status() -> bytes:
    return b"STATUS\n"


def encode_state(state: Mapping[str, Any]) -> bytes:
    """The answer to STATUS; what JSON has no form for is written as text."""
    return json.dumps(state, default=str).encode() + b"\n"


def encode_dict(tids: Mapping[str, int]) -> bytes:
    """A dict of integers: part of COMMIT, and the answer to DUMP."""
    return b"".join(
        (
            b"%d\n" % len(tids),
            *map(_field, tids),
            *(b"%d\n" % value for value in tids.values()),
        )
    )


def encode_truth(value: bool) -> bytes:
    """The answer to BOOTSTRAPED."""
    return b"1\n" if value else b"0\n"


def decode_dict(data: bytes) -> dict[str, int] | None:
    """The dict that ``data`` starts with; None while its end has not come.

    Raises: ProtocolError: where ``data`` starts with no dict.
    """
    fields = data.replace(b"\r", b"").split(b"\n")[:-1]
    if not fields:
        return None
    size = _length(fields[0])
    if len(fields) < 1 + 2 * size:
        return None
    return _dict(fields, 1, size)


class Parser:
    """The commands in a stream of bytes, however it is cut into pieces."""

    def __init__(self) -> None:
        self._tail = b""
        self._fields: list[bytes] = []
        self._size = 0
        self._needed = 1

    def feed(self, data: bytes) -> list[Command]:
        """The commands completed by ``data``, in order.

        Raises: ProtocolError: where the stream makes no sense.
        """
        if b"\r" in data:
            data = data.replace(b"\r", b"")
        self._size += len(data)
        pieces = (self._tail + data).split(b"\n") if self._tail else data.split(b"\n")
        self._tail = pieces.pop()
        fields = self._fields
        fields += pieces
        commands: list[Command] = []
        if len(fields) >= self._needed:
            self._parse(fields, commands)
        if self._size > LONGEST_COMMAND:
            self._size = sum(map(len, fields)) + len(fields) + len(self._tail)
            if self._size > LONGEST_COMMAND:
                raise ProtocolError(
                    f"one command of more than {LONGEST_COMMAND} bytes", commands
                )
        return commands

    def _parse(self, fields: list[bytes], commands: list[Command]) -> None:
        position = 0
        count = len(fields)
        try:
            while position < count:
                read = _READERS.get(fields[position].upper())
                if read is None:
                    position += 1
                    continue
                try:
                    command, end = read(fields, position + 1)
                except _NoCommand:
                    position += 1
                    continue
                if command is None:
                    self._needed = end - position
                    break
                commands.append(command)
                position = end
            else:
                self._needed = 1
        except ProtocolError as error:
            raise ProtocolError(str(error), commands) from None
        del fields[:position]
        self._size = sum(map(len, fields)) + len(fields) + len(self._tail)


# A reader gets the fields and the position behind the command's name.  It gives
# the command and the position behind it, or None and the number of fields from
# the start of ``fields`` without which another try is of no use.
_Reading = tuple[Command | None, int]


def _read_begin(fields: list[bytes], position: int) -> _Reading:
    if position + 2 > len(fields):
        return None, position + 2
    end = position + 2 + _length(fields[position + 1])
    if end > len(fields):
        return None, end
    storages = tuple(map(_text, fields[position + 2 : end]))
    return Begin(_text(fields[position]), storages), end


def _read_abort(fields: list[bytes], position: int) -> _Reading:
    if position + 1 > len(fields):
        return None, position + 1
    return Abort(_text(fields[position])), position + 1


def _read_commit(fields: list[bytes], position: int) -> _Reading:
    if position + 2 > len(fields):
        return None, position + 2
    size = _length(fields[position + 1])
    end = position + 2 + 2 * size
    if end > len(fields):
        return None, end
    return Commit(_text(fields[position]), _dict(fields, position + 2, size)), end


def _read_dump(fields: list[bytes], position: int) -> _Reading:
    return Dump(), position


def _read_bootstraped(fields: list[bytes], position: int) -> _Reading:
    return Bootstraped(), position


def _read_quit(fields: list[bytes], position: int) -> _Reading:
    return Quit(), position


def _read_hello(fields: list[bytes], position: int) -> _Reading:
    if position + 1 > len(fields):
        return None, position + 1
    return _hello(fields[position]), position + 1


def _hello(field: bytes) -> Hello:
    try:
        data = json.loads(field)
        return Hello(str(data["name"]), str(data["host"]), int(data["pid"]))
    except (ValueError, KeyError, TypeError):
        raise _NoCommand from None


def _read_status(fields: list[bytes], position: int) -> _Reading:
    return Status(), position


_READERS: dict[bytes, Callable[[list[bytes], int], _Reading]] = {
    b"BEGIN": _read_begin,
    b"ABORT": _read_abort,
    b"COMMIT": _read_commit,
    b"DUMP": _read_dump,
    b"BOOTSTRAPED": _read_bootstraped,
    b"QUIT": _read_quit,
    b"HELLO": _read_hello,
    b"STATUS": _read_status,
}


def _dict(fields: list[bytes], position: int, size: int) -> dict[str, int]:
    middle = position + size
    return {
        _text(key): _number(value)
        for key, value in zip(
            fields[position:middle], fields[middle : middle + size], strict=True
        )
    }


def _length(field: bytes) -> int:
    size = _number(field)
    if size > LONGEST_LIST:
        raise ProtocolError(f"a list of {size} fields; at most {LONGEST_LIST}")
    return size


def _number(field: bytes) -> int:
    if not field.isdigit() or len(field) > _LONGEST_NUMBER:
        raise ProtocolError(f"not a number: {field[:60]!r}")
    return int(field)


def _text(field: bytes) -> str:
    # Any byte is data: what is no UTF-8 has to come back as it was.
    return field.decode("utf-8", "surrogateescape")


def _field(text: str) -> bytes:
    if "\n" in text or "\r" in text:
        raise ValueError(f"a field of the wire protocol is one line: {text!r}")
    return text.encode("utf-8", "surrogateescape") + b"\n"
