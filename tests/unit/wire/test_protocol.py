"""The grammar of the wire, byte by byte."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidstorage.wire import protocol
from tidstorage.wire.protocol import (
    Abort,
    Begin,
    Bootstraped,
    Commit,
    Dump,
    Parser,
    ProtocolError,
    Quit,
)

OLD_ID = '[[["127.0.0.1", 8100]], "root"]'
STREAM = (
    b"BEGIN\nt1\n2\na\nb\n"
    b"commit\r\nt1\r\n2\r\na\r\nb\r\n5\r\n7\r\n"
    b"Abort\nt2\nDUMP\nBootStraped\nbegin\nt3\n0\nCOMMIT\nt3\n0\nQUIT\n"
)
COMMANDS = [
    Begin("t1", ("a", "b")),
    Commit("t1", {"a": 5, "b": 7}),
    Abort("t2"),
    Dump(),
    Bootstraped(),
    Begin("t3", ()),
    Commit("t3", {}),
    Quit(),
]


def parsed(data: bytes) -> list[protocol.Command]:
    return Parser().feed(data)


def test_every_command_in_any_case_and_with_carriage_returns():
    assert parsed(STREAM) == COMMANDS


@given(st.lists(st.integers(0, len(STREAM))))
def test_the_stream_may_be_cut_anywhere(cuts):
    places = [0, *sorted(cuts), len(STREAM)]
    parser = Parser()
    heard = []
    for start, end in itertools.pairwise(places):
        heard += parser.feed(STREAM[start:end])
    assert heard == COMMANDS


def test_byte_by_byte():
    parser = Parser()
    heard = []
    for byte in STREAM:
        heard += parser.feed(bytes([byte]))
    assert heard == COMMANDS


def test_what_names_no_command_is_dropped_alone():
    # As peers of version 1 always did: the argument that is a command is obeyed.
    assert parsed(b"HELLO\nworld\n\nDUMP\n3\n") == [Dump()]


def test_encoders_write_the_bytes_of_version_1():
    assert protocol.encode_begin("t", ["a", "b"]) == b"BEGIN\nt\n2\na\nb\n"
    assert protocol.encode_abort("t") == b"ABORT\nt\n"
    assert protocol.encode_commit("t", {"a": 1, "b": 22}) == (
        b"COMMIT\nt\n2\na\nb\n1\n22\n"
    )
    assert protocol.encode_dump() == b"DUMP\n"
    assert protocol.encode_bootstraped() == b"BOOTSTRAPED\n"
    assert protocol.encode_dict({}) == b"0\n"
    assert (protocol.encode_truth(True), protocol.encode_truth(False)) == (
        b"1\n",
        b"0\n",
    )


_fields = st.binary().map(
    lambda data: (
        data.replace(b"\n", b"").replace(b"\r", b"").decode("utf-8", "surrogateescape")
    )
)
_tids = st.dictionaries(_fields, st.integers(0, (1 << 64) - 1), max_size=5)


@given(_fields, st.lists(_fields, max_size=5), _tids)
def test_what_is_encoded_is_understood_whatever_bytes_it_has(name, storages, tids):
    data = (
        protocol.encode_begin(name, storages)
        + protocol.encode_commit(name, tids)
        + protocol.encode_abort(name)
    )
    assert parsed(data) == [
        Begin(name, tuple(storages)),
        Commit(name, tids),
        Abort(name),
    ]
    assert protocol.decode_dict(protocol.encode_dict(tids)) == tids


def test_an_answer_that_is_not_whole_yet():
    whole = protocol.encode_dict({OLD_ID: 1, "b": 2})
    for end in range(len(whole)):
        assert protocol.decode_dict(whole[:end]) is None
    assert protocol.decode_dict(whole) == {OLD_ID: 1, "b": 2}
    with pytest.raises(ProtocolError):
        protocol.decode_dict(b"HTTP/1.1 400\n")


@pytest.mark.parametrize(
    "rubbish",
    [
        b"BEGIN\nt\nmany\n",
        b"BEGIN\nt\n-1\n",
        b"BEGIN\nt\n 1\n",
        b"BEGIN\nt\n1_0\n",
        b"BEGIN\nt\n\n",
        b"BEGIN\nt\n99999999\n",
        b"COMMIT\nt\nx\n",
        b"COMMIT\nt\n1\na\nx\n",
        b"COMMIT\nt\n1\na\n" + b"9" * 5000 + b"\n",
        b"BEGIN\nt\n\xd9\xa1\n",
    ],
)
def test_a_number_that_is_none_ends_the_connection(rubbish):
    with pytest.raises(ProtocolError) as caught:
        parsed(b"DUMP\nABORT\nt0\n" + rubbish)
    assert caught.value.commands == [Dump(), Abort("t0")]


@pytest.mark.parametrize(
    "endless",
    [b"x" * 4096, b"BEGIN\nt\n9999\n" + b"y" * 4096, b"BEGIN\n" + b"z" * 4096],
)
def test_memory_of_one_connection_is_bounded(endless):
    parser = Parser()
    with pytest.raises(ProtocolError, match="bytes"):
        for _ in range(2 * protocol.LONGEST_COMMAND // 4096):
            parser.feed(endless)
            endless = b"w" * 4096


def test_a_long_stream_of_commands_is_no_long_command():
    parser = Parser()
    piece = protocol.encode_begin("t", ["a" * 100] * 10)
    heard = sum(
        len(parser.feed(piece * 100))
        for _ in range(3 * protocol.LONGEST_COMMAND // 10**5)
    )
    assert heard % 100 == 0 and heard


def test_a_long_list_in_small_pieces_takes_no_quadratic_time():
    data = protocol.encode_begin("t", [str(n) for n in range(protocol.LONGEST_LIST)])
    parser = Parser()
    started = time.process_time()
    heard = [command for byte in data for command in parser.feed(bytes([byte]))]
    assert [len(command.storages) for command in heard] == [protocol.LONGEST_LIST]
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", ["a\nb", "a\rb"])
def test_a_field_is_one_line(name):
    with pytest.raises(ValueError, match="one line"):
        protocol.encode_begin(name, [])


def test_the_process_and_the_state_came_later():
    process = protocol.Hello("web\n1", "host", 7)
    data = protocol.encode_hello(process) + protocol.encode_status()
    assert data == b'HELLO\n{"name": "web\\n1", "host": "host", "pid": 7}\nSTATUS\n'
    assert parsed(data) == [process, protocol.Status()]


@pytest.mark.parametrize("field", [b"world", b"{}", b"[1]", b"7", b'{"name": "a"}'])
def test_what_only_sounds_like_a_later_command_is_dropped(field):
    assert parsed(b"HELLO\n" + field + b"\nDUMP\nHELLO\nDUMP\n") == [Dump(), Dump()]
