"""What status takes from the daemon."""

from types import SimpleNamespace

import pytest

from tidstorage.errors import NotConnected
from tidstorage.verbs.status import status
from tidstorage.wire import client

DAEMON = SimpleNamespace(host="127.0.0.1", port=1)


@pytest.mark.parametrize(
    ("state", "alarms"),
    [
        ({"observed": {"alarms": ["the point is behind"]}}, ("the point is behind",)),
        # It observes nothing, or is of a former version.
        ({"observed": None}, ()),
        ({"observed": {"bootstrapped": True}}, ()),
        ({}, ()),
    ],
)
def test_what_waits_is_an_alarm(state, alarms, monkeypatch):
    monkeypatch.setattr(client, "dump", lambda *_: {"a": 1})
    monkeypatch.setattr(client, "state", lambda *_: state)
    assert status._ask_daemon(DAEMON) == ({"a": 1}, None, alarms)


def test_a_daemon_that_is_silent_says_nothing(monkeypatch):
    def fail(*_):
        raise NotConnected("nobody is there")

    monkeypatch.setattr(client, "dump", fail)
    assert status._ask_daemon(DAEMON) == (None, None, ())
