"""The client of our tools, on a real server."""

import contextlib
from pathlib import Path

import pytest
from real_processes import PATIENCE, wait_until, zeo_server
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import ReadOnlyError

from tidstorage.errors import NotConnected
from tidstorage.zeo.client import ZeoClient, connect

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path):
    with zeo_server(tmp_path, ["a"]) as server:
        yield server


def client_of(server, **options):
    client = ZeoClient(
        server.address, "a", label="a test", connect_seconds=PATIENCE, **options
    )
    return contextlib.closing(client)


def write(client, count: int) -> None:
    for _ in range(count):
        metadata = TransactionMetaData()
        client.tpc_begin(metadata)
        client.store(client.new_oid(), b"\0" * 8, b"x", "", metadata)
        client.tpc_vote(metadata)
        client.tpc_finish(metadata)


def times_open(server, path: Path) -> int:
    """How many descriptors the server has for a file."""
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    targets = [descriptor.readlink() for descriptor in descriptors.iterdir()]
    return targets.count(path.resolve())


def test_it_reads_and_writes_nothing_unless_told_otherwise(server):
    with client_of(server) as client, pytest.raises(ReadOnlyError):
        write(client, 1)


def test_it_tells_what_another_client_wrote(server):
    with client_of(server) as reader, client_of(server, read_only=False) as writer:
        assert reader.last_tid() == 0
        write(writer, 3)
        tids = [int.from_bytes(each, "big") for each in tids_in(reader)]
        assert len(tids) == 3 and reader.last_tid() == tids[-1]
        assert len(reader.newest(2)) == 2
        assert len(tids_in(reader, tids[1])) == 2


def tids_in(client, start=None) -> list[bytes]:
    with client.transactions(start) as transactions:
        return [transaction.tid for transaction in transactions]


def test_an_iteration_that_ends_early_leaves_no_open_file_at_the_server(server):
    path = server.data_file("a")
    with client_of(server, read_only=False) as writer:
        write(writer, 5)
    with client_of(server) as client:
        before = times_open(server, path)
        for _ in range(10):
            with client.transactions() as transactions:
                next(transactions)
        # The server is told without waiting for its answer.
        wait_until(lambda: times_open(server, path) <= before, "all are closed")


def test_a_server_that_is_down_or_knows_no_such_storage_is_named(server):
    def ask(storage: str) -> None:
        with connect(
            server.address, storage, server="alpha", label="a test", connect_seconds=0.5
        ):
            pass

    ask("a")
    with pytest.raises(
        NotConnected, match=r"storage b of ZEO server alpha at .* reach"
    ):
        ask("b")
    server.kill()
    with pytest.raises(
        NotConnected, match=r"storage a of ZEO server alpha at .* reach"
    ):
        ask("a")
