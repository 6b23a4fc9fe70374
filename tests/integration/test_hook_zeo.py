"""The hook over real ZEO servers."""

import gc
import json
import signal
import statistics
import subprocess
import sys
import threading
import time

import pytest
import transaction
import ZEO
import ZODB
from listener import Listener
from real_processes import PATIENCE, wait_until, zeo_server
from records import read, violations
from ZODB.blob import Blob
from ZODB.POSException import ConflictError

import tidstorage
from tidstorage.coherence import stamp, tid
from tidstorage.hook import hook, sender
from tidstorage.wire import protocol

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def clean():
    # Databases that other tests left open, of storages with the ids of these.
    gc.collect()
    yield
    transaction.abort()
    tidstorage.uninstall()


@pytest.fixture
def servers(tmp_path):
    """Two ZEO servers with blobs: storages ``root`` and ``media``."""
    with (
        zeo_server(tmp_path / "alpha", ["root"], blobs=True) as alpha,
        zeo_server(tmp_path / "beta", ["media"], blobs=True) as beta,
    ):
        yield {"root": alpha, "media": beta}


class Site:
    """The multi-database of one client process."""

    def __init__(self, servers, folder):
        self.servers = servers
        self.databases = {}
        for storage, name in (("root", "main"), ("media", "pictures")):
            client = ZEO.client(
                servers[storage].address,
                storage=storage,
                blob_dir=str(folder / f"client-{storage}"),
            )
            ZODB.DB(client, database_name=name, databases=self.databases)

    def open(self, manager=None):
        main = self.databases["main"].open(manager)
        return main, main.get_connection("pictures")

    def close(self):
        for database in list(self.databases.values()):
            database.close()

    def records(self):
        """{storage id: [(tid, stamp)]} from the files; closes and stops all."""
        self.close()
        for server in self.servers.values():
            server.stop()
        return {
            storage: read(server.data_file(storage))
            for storage, server in self.servers.items()
        }


@pytest.fixture
def open_site(servers, tmp_path):
    """Makes the site, after ``install``; closes it also where a test fails."""
    opened = []

    def make():
        opened.append(Site(servers, tmp_path))
        return opened[-1]

    yield make
    for site in opened:
        site.close()


@pytest.fixture
def site(open_site):
    tidstorage.install()
    return open_site()


def add_one(*connections, manager=transaction.manager):
    for connection in connections:
        root = connection.root()
        root["count"] = root.get("count", 0) + 1
    manager.commit()


def test_the_zeo_storage_names_are_the_ids(site):
    main, pictures = site.open()
    add_one(main, pictures)
    add_one(pictures)
    main.close()
    records = site.records()
    (root_tid, both), (media_tid, same) = records["root"][-1], records["media"][-2]
    assert both == same
    assert both.participants == {"root", "media"}
    alone = records["media"][-1][1]
    assert alone.participants == {"media"}
    assert alone.vector == {"root": root_tid + 1, "media": media_tid + 1}


def test_blob_and_undo_in_one_transaction(site):
    main, pictures = site.open()
    pictures.root()["blob"] = Blob(b"many bytes")
    add_one(main)
    database = site.databases["main"]
    database.undo(database.undoLog(0, 1)[0]["id"])
    with pictures.root()["blob"].open("w") as stream:
        stream.write(b"other bytes")
    transaction.commit()
    main.close()
    records = site.records()
    assert records["root"][-1][1] == records["media"][-1][1]
    assert records["root"][-1][1].participants == {"root", "media"}
    assert records["root"][-2][1] == records["media"][-2][1]


def test_reading_the_last_tid_asks_no_server(site):
    main, pictures = site.open()
    add_one(main, pictures)
    known = [database.storage.lastTransaction() for database in site.databases.values()]
    for server in site.servers.values():
        server.signal(signal.SIGSTOP)
    # A question would be answered by nobody.
    again = [database.storage.lastTransaction() for database in site.databases.values()]
    for server in site.servers.values():
        server.signal(signal.SIGCONT)
    assert again == known
    main.close()


def test_every_prefix_that_the_stamps_allow_is_a_coherent_cut(site):
    threads = [threading.Thread(target=_write, args=(site, seed)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = site.records()
    assert sum(map(len, records.values())) > 40
    assert all(mark for marks in records.values() for _, mark in marks)
    ends = {storage: marks[-1][0] for storage, marks in records.items()}
    assert violations(records, ends) == []
    # One record too few in a storage that a later one depends on is noticed.
    shorter = {**ends, "root": records["root"][0][0]}
    assert violations(records, shorter)


def _write(site, seed):
    manager = transaction.TransactionManager()
    main, pictures = site.open(manager)
    written = 0
    while written < 10:
        group = [(main, pictures), (main,), (pictures,)][(written + seed) % 3]
        try:
            add_one(*group, manager=manager)
        except ConflictError:
            manager.abort()
        else:
            written += 1
    main.close()


def test_the_default_storage_name_stops_stamping_until_it_is_given_an_id(
    tmp_path, caplog
):
    tidstorage.install()
    with zeo_server(tmp_path, ["1"]) as server:
        database = ZODB.DB(ZEO.client(server.address), database_name="main")
        with database.transaction() as connection:
            connection.root()["x"] = 1
        assert caplog.text.count("ZEO's default") == 1
        tidstorage.install(ids={"main": "root"})
        with database.transaction() as connection:
            connection.root()["x"] = 2
        database.close()
        server.stop()
        marks = [mark for _, mark in read(server.data_file("1"))]
    assert marks[-2] is None
    assert marks[-1].participants == {"root"}


def test_a_client_that_was_never_connected_stops_nothing(site, tmp_path):
    away = ZEO.ClientStorage.ClientStorage(
        ("127.0.0.1", 1), storage="away", wait=False, wait_timeout=1
    )
    assert away.lastTransaction() in (None, bytes(8))
    away.close()


def test_the_messages_hold_the_tids_of_the_records(open_site, tmp_path):
    listener = Listener(tmp_path).start()
    tidstorage.install(listener.address)
    site = open_site()
    main, pictures = site.open()
    add_one(main, pictures)
    database = site.databases["main"]
    database.undo(database.undoLog(0, 1)[0]["id"])
    add_one(pictures)
    main.close()
    wait_until(lambda: len(listener.heard()) == 8, "all messages arrive")
    heard = listener.heard()
    listener.kill()
    commits = {
        each.transaction_id: dict(each.tids)
        for each in heard
        if isinstance(each, protocol.Commit)
    }
    written = {}
    for storage, marks in site.records().items():
        for number, mark in marks:
            written.setdefault(mark.commit_id.hex(), {})[storage] = number
    assert commits == written
    assert len(commits) == 4


@pytest.mark.parametrize("state", ["stopped", "killed"])
def test_commits_do_not_wait_for_the_daemon(open_site, tmp_path, state, monkeypatch):
    # Whoever waits for it in any way, waits at least that long.
    for name in ("TIMEOUT", "FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(sender, name, 2 * PATIENCE)
    listener = Listener(tmp_path).start()
    tidstorage.install(listener.address)
    site = open_site()
    main, pictures = site.open()
    add_one(main, pictures)
    wait_until(lambda: len(listener.heard()) == 6, "it hears")
    if state == "stopped":
        listener.signal(signal.SIGSTOP)
    else:
        listener.kill()
    for _ in range(60):
        start = time.monotonic()
        add_one(main, pictures)
        assert time.monotonic() - start < PATIENCE
    listener.kill()
    assert tidstorage.statistics()["errors"] == 0
    main.close()


def test_stamping_costs_little_beside_a_commit(site):
    """Pairs of commits with and without it; CPU, since others use the machine."""
    main, pictures = site.open()
    active = hook._active
    shares = []
    for number in range(60):
        spent = {}
        for hooked in (number % 2 == 0, number % 2 == 1):
            hook._active = active if hooked else None
            start = time.thread_time()
            add_one(main, pictures)
            spent[hooked] = time.thread_time() - start
        shares.append(spent[True] / spent[False])
    hook._active = active
    assert statistics.median(shares) < 1.5
    main.close()


def test_a_short_process_sends_what_it_has_to_say_before_it_ends(servers, tmp_path):
    listener = Listener(tmp_path).start()
    program = """if True:
        import sys, ZEO, ZODB, tidstorage.hook.hook
        tidstorage.hook.hook.FLUSH_DEADLINE = 100
        tidstorage.install((sys.argv[1], int(sys.argv[2])))
        client = ZEO.client((sys.argv[3], int(sys.argv[4])), storage="root")
        database = ZODB.DB(client, database_name="main")
        with database.transaction() as connection:
            connection.root()["x"] = 1
        database.close()
    """
    addresses = [str(part) for part in (*listener.address, *servers["root"].address)]
    subprocess.run(
        [sys.executable, "-c", program, *addresses], check=True, timeout=PATIENCE
    )
    wait_until(lambda: len(listener.heard()) == 4, "it has told all")
    listener.kill()


def test_importing_the_package_is_cheap():
    program = (
        "import sys, tidstorage; tidstorage.install;"
        "print(sum(name.partition('.')[0] in ('ZODB', 'ZEO', 'transaction')"
        " for name in sys.modules))"
    )
    heard = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert heard.stdout == "0\n"


def test_the_stamp_survives_a_pack(site):
    main, pictures = site.open()
    add_one(main, pictures)
    last = tid.from_bytes(main.db().lastTransaction())
    main.close()
    site.databases["main"].pack(time.time() - 0.001)
    (number, mark) = site.records()["root"][-1]
    assert number == last
    assert mark.participants == {"root", "media"}
    assert isinstance(mark, stamp.Stamp)


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import faulthandler, json, sys
faulthandler.dump_traceback_later(float(sys.argv[3]), exit=True)
import gevent, transaction, ZEO, ZODB, tidstorage
tidstorage.install(("127.0.0.1", 1))
client = ZEO.client((sys.argv[1], int(sys.argv[2])), storage="root")
database = ZODB.DB(client, database_name="main")

def write(number):
    for count in range(5):
        manager = transaction.TransactionManager()
        connection = database.open(manager)
        connection.root()[str(number)] = count
        try:
            manager.commit()
        except ZODB.POSException.ConflictError:
            manager.abort()
        connection.close()

gevent.joinall([gevent.spawn(write, number) for number in range(5)], raise_error=True)
database.close()
print(json.dumps(tidstorage.statistics()))
"""


def test_greenlets_commit_through_zeo(servers):
    address = servers["root"].address
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, *map(str, address), str(PATIENCE)],
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    told = json.loads(done.stdout)
    assert told["stamped"] >= 25
    assert told["errors"] == told["unstamped"] == 0
