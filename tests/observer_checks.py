"""What has to hold of an observer; AssertionError where it does not.

``observer`` is the module: ours, or a copy with a defect (test_mutations.py).
"""

import binascii
from pathlib import Path

from tidstorage.coherence import tid
from tidstorage.daemon.settings import ObservedStorage


class Server:
    """What an observer asks of a ZeoClient, answered from a list of TIDs."""

    connection_number = 1

    def __init__(self) -> None:
        self.tids = [1]

    def is_connected(self):
        return True

    def last_tid(self):
        return self.tids[-1]

    def server_status(self):
        return {"lock_time": None}

    def newest(self, count):
        return [
            {"id": binascii.b2a_base64(tid.to_bytes(each)).rstrip(b"\n")}
            for each in self.tids[: -count - 1 : -1]
        ]


class Observed:
    """An observer in no thread, that looks when it is told, and what it reports."""

    def __init__(self, observer) -> None:
        self.tids = []
        self.wanted = 1000
        self.server = Server()
        self._observer = observer.StorageObserver(
            ObservedStorage("A", Path("nowhere"), "A"),
            {},
            observer.Callbacks(
                lambda storage: None,
                lambda storage, records: self.tids.extend(r.tid for r in records),
                lambda storage, moment: None,
                lambda storage, last: None,
                lambda storage, last: None,
                lambda probe: None,
                lambda storage, why: None,
                lambda storage: self.wanted - len(self.tids),
            ),
            1,
            is_record=True,
        )
        self._observer._closing.set()  # It waits for nobody.
        self.look()

    def commit(self, *, announced: bool) -> None:
        self.server.tids.append(self.server.tids[-1] + 1)
        if announced:
            last = tid.to_bytes(self.server.tids[-1])
            self._observer._listener.invalidate(last, [])

    def reconnect(self) -> None:
        self._observer._listener.invalidateCache()

    def look(self) -> None:
        self._observer._look_now(self.server, True)


def announced_records_are_seen(observer):
    observed = Observed(observer)
    for _ in range(9):
        observed.commit(announced=True)
    observed.look()
    assert observed.tids == [*range(2, 11)]


def gaps_are_filled(observer):
    """What nobody announced is seen after a reconnect, and before what came later."""
    observed = Observed(observer)
    for _ in range(3):
        observed.commit(announced=False)
    observed.reconnect()
    observed.look()
    assert observed.tids == [2, 3, 4]
    for _ in range(3):
        observed.commit(announced=False)
    observed.reconnect()
    observed.commit(announced=True)
    observed.look()
    assert observed.tids == [*range(2, 9)]


def what_cannot_wait_here_is_seen_later(observer):
    observed = Observed(observer)
    observed.wanted = 0
    observed.commit(announced=True)
    observed.look()
    assert observed.tids == []
    observed.wanted = 1
    observed.look()
    assert observed.tids == [2]
