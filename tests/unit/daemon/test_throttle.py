"""Announcements wait in the socket, where ZEO is made as we know it."""

from types import SimpleNamespace

import pytest

from tidstorage.daemon import throttle
from tidstorage.daemon.throttle import Throttle
from tidstorage.zeo.client import ZeoClient


class Transport:
    def __init__(self) -> None:
        self.reads = True

    def is_reading(self) -> bool:
        return self.reads

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


@pytest.fixture
def transport():
    throttle._say_once.cache_clear()
    return Transport()


class Client(SimpleNamespace):
    """What a Throttle goes through of a ZeoClient."""

    io_loop = ZeoClient.io_loop
    io_transport = ZeoClient.io_transport


def client_of(transport):
    """A client whose ZEO works in this thread."""
    loop = SimpleNamespace(
        is_closed=lambda: False, call_soon_threadsafe=lambda function: function()
    )
    sm_protocol = SimpleNamespace(transport=transport)
    protocol = SimpleNamespace(sm_protocol=sm_protocol)
    return Client(
        _server=SimpleNamespace(loop=loop, client=SimpleNamespace(protocol=protocol))
    )


def observe_a_while(client, transport):
    """As an observer and its listener do; whether the socket was read meanwhile."""
    throttled = Throttle(client)
    reads = []
    for _ in range(2):
        throttled.pause()
        throttled.allow()
        throttled.pause()
        reads.append(transport.reads)
        throttled.disallow()
        reads.append(transport.reads)
        throttled.pause()
        reads.append(transport.reads)
    return reads


def test_nothing_is_read_while_nobody_asks(transport, caplog):
    reads = observe_a_while(client_of(transport), transport)
    assert reads == [True, True, False, True, True, False]
    assert not caplog.messages


def test_without_a_connection_there_is_nothing_to_pause(transport, caplog):
    client = client_of(transport)
    client._server.client.protocol = None
    assert all(observe_a_while(client, transport))
    assert not caplog.messages


@pytest.mark.parametrize(
    "path",
    [
        "_server",
        "_server.loop",
        "_server.client",
        "_server.client.protocol",
        "_server.client.protocol.sm_protocol",
        "_server.client.protocol.sm_protocol.transport",
    ],
)
def test_a_zeo_that_is_made_otherwise_is_read_all_the_time(transport, caplog, path):
    client = client_of(transport)
    *way, last = path.split(".")
    owner = client
    for each in way:
        owner = getattr(owner, each)
    delattr(owner, last)
    for _ in "four":
        assert all(observe_a_while(client, transport))
    (message,) = caplog.messages
    assert "not as we know it" in message and last in message


@pytest.mark.parametrize("name", ["is_reading", "resume_reading", "pause_reading"])
def test_a_transport_that_cannot_pause_is_read_all_the_time(transport, caplog, name):
    class Other(Transport):
        def __getattribute__(self, wanted):
            if wanted == name:
                raise AttributeError(f"no {wanted}")
            return super().__getattribute__(wanted)

    other = Other()
    assert all(observe_a_while(client_of(other), other))
    assert len(caplog.messages) == 1
