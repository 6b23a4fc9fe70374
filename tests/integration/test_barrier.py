"""The barrier, with real servers, and real client processes that commit."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import records
from real_processes import PATIENCE, ZeoServer, send_signal, wait_until, zeo_server
from ZEO.ClientStorage import ClientStorage

from tidstorage.errors import BarrierFailed
from tidstorage.system import child
from tidstorage.zeo import barrier, barrier_helper
from tidstorage.zeo.barrier import BarrierStorage

pytestmark = pytest.mark.integration
WRITER = Path(__file__).parents[1] / "stamping_writer.py"

VOTE_AND_WAIT = """
import sys, ZEO
from ZODB.Connection import TransactionMetaData
client = ZEO.client((sys.argv[1], int(sys.argv[2])), storage=sys.argv[3])
transaction = TransactionMetaData()
client.tpc_begin(transaction)
client.tpc_vote(transaction)
print("voted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def servers(tmp_path):
    with (
        zeo_server(tmp_path / "a", ["catalog", "root"], "alpha") as alpha,
        zeo_server(tmp_path / "b", ["documents"], "beta") as beta,
    ):
        yield alpha, beta


def take(*servers: ZeoServer) -> dict[str, int]:
    """A barrier, where it is not about its deadline."""
    return barrier.take(storages(*servers), deadline=PATIENCE)


def storages(*servers: ZeoServer) -> list[BarrierStorage]:
    return [
        BarrierStorage(storage, server.address)
        for server in servers
        for storage in server.storages
    ]


def addresses(*servers: ZeoServer) -> dict[str, tuple[str, int]]:
    return {each.id: each.address for each in storages(*servers)}


@contextlib.contextmanager
def process(*arguments: str, first_line: str):
    """A process that has printed its first line; killed at the end."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child.environment(),
        text=True,
    ) as running:
        try:
            assert running.stdout.readline() == first_line + "\n"
            yield running
        finally:
            running.kill()


def writer(seed: int, where: dict[str, tuple[str, int]], **options):
    data = {"seed": seed, "storages": where, **options}
    return process(str(WRITER), json.dumps(data), first_line="ready")


def voter(server: ZeoServer, storage: str):
    host, port = server.address
    return process("-c", VOTE_AND_WAIT, host, str(port), storage, first_line="voted")


def test_vectors_are_coherent_cuts_while_processes_commit(servers):
    where = addresses(*servers)
    with contextlib.ExitStack() as stack:
        for seed in range(3):
            stack.enter_context(writer(seed, where))
        vectors = []
        for _ in range(8):
            vectors.append(take(*servers))
            wait_until_written(servers)
    for server in servers:
        server.stop()
    content = {
        storage: records.read(server.data_file(storage))
        for server in servers
        for storage in server.storages
    }
    for storage in where:
        assert len({vector[storage] for vector in vectors}) == 8, "nothing was written"
    assert [records.violations(content, vector) for vector in vectors] == [[]] * 8
    # The judge sees a torn vector when there is one.
    torn = {**vectors[-1], "root": vectors[0]["root"]}
    assert records.violations(content, torn)


def sizes(servers):
    return {
        s: server.data_file(s).stat().st_size
        for server in servers
        for s in server.storages
    }


def wait_until_written(servers):
    """Until each storage holds several more transactions."""
    before = sizes(servers)
    wait_until(
        lambda: all(size > before[s] + 5000 for s, size in sizes(servers).items()),
        "every storage is written to",
    )


def test_leaves_no_record(servers):
    before = sizes(servers)
    assert take(*servers) == dict.fromkeys(before, 0)
    for server in servers:
        server.stop()
        for storage in server.storages:
            assert server.data_file(storage).stat().st_size == before[storage]


def test_client_stopped_with_a_vote_is_given_up_and_others_commit_on(servers):
    alpha, beta = servers
    with voter(beta, "documents") as stuck:
        send_signal(stuck, signal.SIGSTOP)
        with pytest.raises(BarrierFailed, match=r"2 attempts.*locked for 0\.5 s"):
            barrier.take(storages(*servers), deadline=0.5, attempts=2)
        # Catalog comes before documents: it was held, and is free again.
        where = dict.fromkeys(alpha.storages, alpha.address)
        with writer(1, where, count=3) as free:
            assert free.wait(PATIENCE) == 0
        stuck.send_signal(signal.SIGCONT)
    assert take(*servers)["documents"] == 0


def test_helper_whose_parent_died_ends_by_itself(servers):
    _, beta = servers
    with voter(beta, "documents"):
        request = {
            "deadline": 0.5,
            "storages": [
                {"id": each, "address": address}
                for each, address in addresses(*servers).items()
            ],
        }
        helper = subprocess.run(
            child.python("tidstorage.zeo.barrier_helper"),
            input=json.dumps(request) + "\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert helper.returncode == -signal.SIGALRM
    assert json.loads(helper.stdout) == {"connected": True}


def test_server_restarted_while_the_barrier_waits(servers):
    alpha, beta = servers
    with voter(beta, "documents") as stuck:
        send_signal(stuck, signal.SIGSTOP)
        with subprocess.Popen(
            [sys.executable, "-c", _TAKE, json.dumps(addresses(*servers))],
            stdout=subprocess.PIPE,
            env=child.environment(),
            text=True,
        ) as taker:
            status = ClientStorage(alpha.address, storage="catalog", read_only=True)
            wait_until(
                lambda: status.server_status()["lock_time"], "the helper holds catalog"
            )
            status.close()
            beta.kill()
            beta.start()
            stuck.kill()
            vector = json.loads(taker.communicate(timeout=PATIENCE)[0])
    # The killed server had begun a record for the vote.  Its next start cuts it
    # off, and yet reports its TID as the last one (FileStorage.read_index).
    assert vector.pop("documents") > 0
    assert vector == {"catalog": 0, "root": 0}
    beta.stop()
    assert records.read(beta.data_file("documents")) == []


_TAKE = """
import json, sys
from tidstorage.zeo import barrier
where = json.loads(sys.argv[1])
storages = [barrier.BarrierStorage(s, tuple(a)) for s, a in where.items()]
# The first one waits until the server is gone, the others until it is back.
print(json.dumps(barrier.take(storages, deadline=100, attempts=8)))
"""


def test_restart_between_votes_and_reading_voids_the_barrier(servers, monkeypatch):
    """Without an exception: the client has found the new server by itself."""
    _, beta = servers
    read = barrier_helper._last_tids

    def restart_and_read(clients):
        if "documents" in clients:
            client = clients["documents"]
            before = client.connection_number
            beta.kill()
            beta.start()
            wait_until(
                lambda: (
                    client.connection_number == before + 2 and client.is_connected()
                ),
                "the client has lost the server and is back",
            )
        return read(clients)

    monkeypatch.setattr(barrier_helper, "_last_tids", restart_and_read)
    clients = barrier_helper._connect(
        [{"id": each, "address": a} for each, a in addresses(*servers).items()]
    )
    with pytest.raises(barrier_helper._Void, match="lost and found"):
        barrier_helper._hold(clients)
    for client in clients.values():
        client.close()


def test_server_down_is_named_and_nothing_stays_locked(servers):
    alpha, beta = servers
    beta.kill()
    with pytest.raises(BarrierFailed, match="documents cannot be reached"):
        barrier.take(storages(*servers), attempts=1)
    where = dict.fromkeys(alpha.storages, alpha.address)
    with writer(1, where, count=3) as free:
        assert free.wait(PATIENCE) == 0


def test_storage_that_refuses_writers(tmp_path, servers):
    server = ZeoServer(tmp_path / "r", ["archive"], "gamma")
    server.start()
    try:
        with writer(1, addresses(server), count=2) as free:
            assert free.wait(PATIENCE) == 0
    finally:
        server.stop()
    configuration = server.configuration.read_text()
    server.configuration.write_text(
        configuration.replace("<zeo>\n", "<zeo>\n read-only true\n")
    )
    server.start()
    try:
        vector = take(*servers, server)
    finally:
        server.kill()
    assert vector["archive"] == records.read(server.data_file("archive"))[-1][0]


def test_repeated_names_are_refused(servers):
    _, beta = servers
    twice = [*storages(*servers), BarrierStorage("root", beta.address)]
    with pytest.raises(BarrierFailed, match="not unique: root"):
        barrier.take(twice)


def test_locks_in_the_order_of_all_clients(tmp_path):
    """Clients sort by name, a colon, and more: ``a-b`` comes before ``a``."""
    with zeo_server(tmp_path, ["a", "a-b", "b"]) as server:
        clients = barrier_helper._connect(
            [{"id": each, "address": server.address} for each in server.storages]
        )
        assert list(clients) == ["a-b", "a", "b"]
        for client in clients.values():
            client.close()
