"""What waits too long: which alarms there are, and how often they are said."""

import logging
import threading
from types import SimpleNamespace

import pytest

from tidstorage.coherence.following import Coherence
from tidstorage.coherence.record import Record
from tidstorage.coherence.stamp import Stamp
from tidstorage.daemon import observers, storage_observer
from tidstorage.daemon.settings import ObservedStorage, Settings
from tidstorage.daemon.storage_observer import Callbacks, StorageObserver
from tidstorage.daemon.waiting import Alarm, Waiting, find_alarms

PATIENCE = 60.0


def watched(**since):
    found = {
        "storage_id": "B",
        "working_since": None,
        "unobserved_since": None,
        "unobserved_why": "refused",
        "locked_since": None,
    }
    return SimpleNamespace(**{**found, **since})


def keys(now, coherence, *all_watched):
    return [alarm.key for alarm in find_alarms(now, 60, coherence, all_watched)]


def test_nothing_waits():
    assert keys(99, Coherence({"A": 1, "B": 1}), watched()) == []


@pytest.mark.parametrize(
    ("what", "key"),
    [
        ("working_since", "silent B"),
        ("unobserved_since", "unobserved B"),
        ("locked_since", "locked B"),
    ],
)
def test_a_storage_that_waits(what, key):
    coherence = Coherence({"A": 1, "B": 1})
    assert keys(59, coherence, watched(**{what: 0.0})) == []
    assert keys(60, coherence, watched(**{what: 0.0})) == [key]


def test_a_point_that_is_behind_says_what_for():
    coherence = Coherence({"A": 1, "B": 1})
    stamp = Stamp(bytes(16), frozenset("AB"), {})
    coherence.add("A", [Record(2, stamp)], 0.0)
    coherence.advance()
    assert keys(59, coherence) == []
    (alarm,) = find_alarms(61, 60, coherence, [])
    assert "61 s behind: 1 record(s) wait, for what is missing of B" in alarm.words


def test_each_is_said_once_and_once_more_at_its_end(caplog):
    caplog.set_level(logging.INFO)
    waiting = Waiting()
    waiting.update([Alarm("a", "a for 1 s")])
    waiting.update([Alarm("a", "a for 2 s"), Alarm("b", "b for 1 s")])
    assert waiting.in_words == ["a for 2 s", "b for 1 s"]
    waiting.update([Alarm("b", "b for 2 s")])
    assert [record.message for record in caplog.records] == [
        "a for 1 s",
        "b for 1 s",
        "over: a for 2 s",
    ]
    assert waiting.in_words == ["b for 2 s"]


def observer_of(confirmed):
    return StorageObserver(
        ObservedStorage("B", ("127.0.0.1", 1), "B"),
        {},
        Callbacks(
            confirmed=confirmed,
            records=lambda storage, records: None,
            complete=lambda storage, moment: None,
            packed=lambda storage, last: None,
            ended=lambda storage, last: None,
            probe=lambda answer: None,
            history_changed=lambda storage, why: None,
            room=lambda storage: 9,
        ),
        1,
        is_record=True,
    )


class Client:
    """A client of a server that has nothing new."""

    iterations_left = 0
    connection_number = 1

    def registerDB(self, database):
        pass

    def is_connected(self):
        return True

    def last_tid(self):
        return 1

    def server_status(self):
        return {"lock_time": None}

    def close(self):
        pass

    def io_loop(self):
        raise AttributeError


def test_an_observer_that_finds_no_descriptor_tries_again(monkeypatch, caplog):
    failures = [OSError(24, "Too many open files")] * 3
    confirmed = threading.Event()

    def client(*arguments, **options):
        if failures:
            raise failures.pop()
        return Client()

    monkeypatch.setattr(storage_observer, "ZeoClient", client)
    monkeypatch.setattr(storage_observer, "LOOK_PERIOD", 0.01)
    observer = observer_of(lambda storage: confirmed.set())
    observer.start()
    try:
        assert confirmed.wait(PATIENCE)
        assert observer.unobserved_since is None
    finally:
        observer.close()
    said = [record for record in caplog.records if "not observed" in record.message]
    assert len(said) == 1 and "Too many open files" in said[0].message


class Reader:
    """An observer, as far as `Observers` watches it."""

    def __init__(self, made, *, is_alive=True, working_since=None):
        self.storage_id = "B"
        self.is_alive, self.working_since = is_alive, working_since
        self.unobserved_since, self.unobserved_why = None, ""
        self.closed = self.started = False
        self.made = made
        made.append(self)

    def start(self):
        self.started = True

    def close(self):
        self.closed = True

    def successor(self):
        return Reader(self.made)


def observing(reader):
    found = object.__new__(observers.Observers)
    found._observers = {"B": reader}
    found._left, found._closed, found.changed = [], False, None
    return found


def test_a_reader_that_died_gets_a_successor():
    made = []
    watching = observing(Reader(made, is_alive=False))
    (successor,) = watching.watch(0.0, 60)
    assert made[0].closed and successor is made[1] and successor.started
    assert watching.watch(1.0, 60) == [successor]


def test_a_reader_that_hangs_gets_one_successor_until_it_ends():
    made = []
    watching = observing(Reader(made, working_since=0.0))
    assert watching.watch(59.0, 60) == [made[0]]
    (successor,) = watching.watch(60.0, 60)
    assert made[0].closed and successor is made[1]
    successor.working_since = 60.0
    assert watching.watch(130.0, 60) == [successor]
    made[0].is_alive = False
    assert watching.watch(131.0, 60) == [made[2]]


def test_the_settings_have_a_limit():
    assert Settings().alarm_after == 60
