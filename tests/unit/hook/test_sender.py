"""The sender never makes a caller wait, whatever becomes of the daemon."""

import os
import signal
import socket
import threading
import time

import pytest
from listener import Listener
from real_processes import PATIENCE, free_port, wait_until

from tidstorage.hook import sender
from tidstorage.hook.sender import Sender
from tidstorage.wire import protocol

#: Seconds for hundreds of transactions: generous for a busy machine, and little
#: beside what they take where each waits for the daemon in any way.
A_MOMENT = 30.0


@pytest.fixture
def listener(tmp_path):
    listener = Listener(tmp_path).start()
    yield listener
    listener.kill()


@pytest.fixture
def make():
    made = []

    def make_sender(address, **options):
        made.append(Sender(address, **options))
        return made[-1]

    yield make_sender
    for each in made:
        each.close(5)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(sender, "TIMEOUT", 0.3)
    monkeypatch.setattr(sender, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(sender, "LONGEST_PAUSE", 0.2)


def tell(told, name):
    """One whole transaction."""
    if told.begin(name, ("root", "catalog")):
        told.commit(name, {"root": 1, "catalog": 2})


def seconds_to_tell(told, names):
    """How long the callers of ``begin`` and ``commit`` had to wait in all."""
    start = time.perf_counter()
    for name in names:
        tell(told, name)
    return time.perf_counter() - start


def test_messages_arrive_in_order(listener, make):
    told = make(listener.address)
    tell(told, "one")
    told.begin("two", ("root",))
    told.abort("two")
    expected = [
        protocol.Begin("one", ("root", "catalog")),
        protocol.Commit("one", {"root": 1, "catalog": 2}),
        protocol.Begin("two", ("root",)),
        protocol.Abort("two"),
    ]
    wait_until(lambda: len(listener.heard()) >= 4, "four messages")
    assert listener.heard() == expected
    wait_until(lambda: told.statistics()["sent"] == 4, "four are counted")
    assert told.statistics() == {"sent": 4, "dropped": 0, "connected": 1}


def test_no_thread_before_the_first_message(listener, make):
    told = make(listener.address)
    assert told._thread is None
    tell(told, "one")
    thread = told._thread
    tell(told, "two")
    assert told._thread is thread and thread.is_alive()


def test_nobody_there_costs_nothing(make, impatient, caplog):
    told = make(("127.0.0.1", free_port()), queue_length=100)
    assert seconds_to_tell(told, map(str, range(300))) < A_MOMENT
    assert told.statistics()["dropped"] > 0
    wait_until(lambda: "cannot be told" in caplog.text, "the loss is logged")


@pytest.fixture
def black_hole():
    """An address where connections are never accepted: its backlog is full."""
    with socket.create_server(("127.0.0.1", free_port()), backlog=0) as server:
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()
        for client in clients:
            client.close()


def test_a_full_backlog_costs_nothing(make, impatient, black_hole):
    told = make(black_hole, queue_length=100)
    assert seconds_to_tell(told, map(str, range(300))) < A_MOMENT


def test_a_stopped_daemon_costs_nothing_and_gets_the_rest_later(
    listener, make, impatient, caplog
):
    told = make(listener.address)
    tell(told, "before")
    wait_until(lambda: len(listener.heard()) == 2, "it hears")
    listener.signal(signal.SIGSTOP)
    long = "x" * 4000
    names = (f"{number}{long}" for number in range(2000))
    assert seconds_to_tell(told, names) < A_MOMENT
    wait_until(lambda: "cannot be told" in caplog.text, "the loss is noticed")
    # Further attempts connect to the kernel and are not answered: no more lines.
    time.sleep(1)
    assert [each.count("is back") for each in said(caplog)] == [0]
    listener.signal(signal.SIGCONT)
    tell(told, "after")
    wait_until(
        lambda: any(
            each == protocol.Begin("after", ("root", "catalog"))
            for each in listener.heard()
        ),
        "it hears again",
    )
    assert [each.count("is back") for each in said(caplog)] == [0, 1]


def said(caplog):
    """What a sender has logged."""
    return [
        each.getMessage() for each in caplog.records if each.name == sender.__name__
    ]


def test_a_killed_daemon_is_found_again_with_one_line_each(
    listener, make, impatient, caplog
):
    told = make(listener.address)
    tell(told, "before")
    wait_until(lambda: len(listener.heard()) == 2, "it hears")
    listener.kill()
    for number in range(50):
        tell(told, f"meanwhile-{number}")
    wait_until(lambda: "cannot be told" in caplog.text, "the loss is logged")
    assert told.statistics()["connected"] == 0
    listener.start()
    wait_until(lambda: len(listener.heard()) >= 102, "all of it arrives")
    assert len(listener.heard()) == 102
    assert [each.split(" (")[0].split()[-2:] for each in said(caplog)] == [
        ["of", "commits"],
        ["is", "back"],
    ]


def test_whole_transactions_are_left_out_never_an_end(listener, make, impatient):
    listener.kill()
    told = make(listener.address, queue_length=10)
    open_ones = [told.begin(str(number), ("root",)) for number in range(30)]
    for number, taken in enumerate(open_ones):
        if taken:
            told.commit(str(number), {"root": number})
    taken = sum(open_ones)
    assert 10 <= taken < 30
    assert told.statistics()["dropped"] == 30 - taken
    listener.start()
    wait_until(lambda: len(listener.heard()) == 2 * taken, "the taken ones arrive")
    begun = {
        each.transaction_id
        for each in listener.heard()
        if isinstance(each, protocol.Begin)
    }
    ended = {
        each.transaction_id
        for each in listener.heard()
        if isinstance(each, protocol.Commit)
    }
    assert begun == ended


def test_a_forked_child_has_a_connection_of_its_own(listener, make):
    told = make(listener.address)
    tell(told, "parent")
    wait_until(lambda: len(listener.heard()) == 2, "the parent is heard")
    child = os.fork()
    if not child:
        try:
            tell(told, "child")
            told.close(PATIENCE)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    tell(told, "parent again")
    wait_until(lambda: len(listener.heard()) == 6, "both are heard")
    assert {each.transaction_id for each in listener.heard()} == {
        "parent",
        "child",
        "parent again",
    }
    assert told.statistics()["connected"] == 1


def test_closing_sends_what_waits(listener, make):
    told = make(listener.address)
    for number in range(500):
        tell(told, str(number))
    told.close(PATIENCE)
    wait_until(lambda: len(listener.heard()) == 1000, "all arrived")
    assert told.statistics()["connected"] == 0


def test_closing_gives_up_soon(make, black_hole, monkeypatch):
    monkeypatch.setattr(sender, "TIMEOUT", 2 * PATIENCE)
    told = make(black_hole)
    tell(told, "one")
    start = time.monotonic()
    told.close(0.5)
    assert time.monotonic() - start < PATIENCE


def test_after_a_defect_the_next_message_starts_another_thread(
    listener, make, monkeypatch
):
    told = make(listener.address)
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    monkeypatch.setattr(sender, "_encode", lambda message: message.nothing)
    tell(told, "lost")
    wait_until(lambda: told._thread is None, "the thread dies")
    monkeypatch.undo()
    tell(told, "heard")
    wait_until(lambda: len(listener.heard()) == 2, "the next is heard")


def test_also_where_it_dies_before_its_start_has_come_back(listener, make, monkeypatch):
    told = make(listener.address)
    start = threading.Thread.start

    def start_and_die(thread):
        start(thread)
        thread.join()

    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    monkeypatch.setattr(threading.Thread, "start", start_and_die)
    monkeypatch.setattr(sender, "_encode", lambda message: message.nothing)
    tell(told, "lost")
    assert told._thread is None
    monkeypatch.undo()
    tell(told, "heard")
    wait_until(lambda: len(listener.heard()) == 2, "the next is heard")
