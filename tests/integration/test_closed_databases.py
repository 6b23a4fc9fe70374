"""A process that notes elsewhere what it read in a database that it has closed since.

Copies of the database from before, and of the other one from after, are cut so that no
note stays without what it is about.
"""

import gc
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import transaction
import ZEO
import ZODB
from persistent.mapping import PersistentMapping
from real_processes import PATIENCE
from records import read
from two_servers import two_servers
from ZODB.FileStorage import FileStorage

import tidstorage

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def clean():
    gc.collect()
    yield
    transaction.abort()
    tidstorage.uninstall()


@pytest.fixture
def servers(tmp_path):
    with two_servers(tmp_path) as servers:
        yield servers


def connect(servers, storage):
    client = ZEO.client(
        servers[storage].address, storage=storage, wait_timeout=PATIENCE
    )
    return ZODB.connection(client)


def make_object(connection):
    connection.root()["new"] = PersistentMapping()
    transaction.commit()
    return connection.root()["new"]._p_oid


def note(servers, oid):
    connection = connect(servers, "a")
    connection.root()["note"] = oid
    transaction.commit()
    connection.close()


def close(servers):
    connection = connect(servers, "c")
    oid = make_object(connection)
    connection.close()
    note(servers, oid)


def close_and_open_again(servers):
    connection = connect(servers, "c")
    oid = make_object(connection)
    connection.close()
    connection = connect(servers, "c")
    note(servers, oid)
    connection.close()
    note(servers, oid)


def close_after_another_has_written(servers):
    connection = connect(servers, "c")
    other = connect(servers, "c")
    oid = make_object(other)
    other.close()
    transaction.begin()
    connection.sync()
    assert connection.root()["new"]._p_oid == oid
    connection.close()
    note(servers, oid)


def fork_after_the_close(servers):
    connection = connect(servers, "c")
    oid = make_object(connection)
    connection.close()
    in_a_child(lambda: note(servers, oid))


def fork_while_it_is_open(servers):
    connection = connect(servers, "c")
    oid = make_object(connection)
    in_a_child(lambda: note(servers, oid))
    connection.close()


def in_a_child(act):
    child = os.fork()
    if not child:
        signal.alarm(int(PATIENCE))
        try:
            act()
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    "way",
    [
        close,
        close_and_open_again,
        close_after_another_has_written,
        fork_after_the_close,
        fork_while_it_is_open,
    ],
)
def test_no_note_stays_without_what_it_is_about(servers, tmp_path, way):
    copies = {storage: tmp_path / f"{storage}.fs" for storage in servers}
    tidstorage.install()
    for storage in servers:
        connection = connect(servers, storage)
        connection.root()["begun"] = True
        transaction.commit()
        connection.close()
    shutil.copy2(servers["c"].data_file("c"), copies["c"])
    way(servers)
    tidstorage.uninstall()
    shutil.copy2(servers["a"].data_file("a"), copies["a"])
    assert read(copies["a"])[-1][1].vector["c"] > read(copies["c"])[-1][0] + 1
    done = subprocess.run(
        [
            Path(sys.executable).with_name("tidstorage-restore"),
            # The note is a whole transaction, and is not dropped unasked.
            "--strict",
            *(f"{storage}={path}" for storage, path in copies.items()),
        ],
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    assert "note" not in root_of(copies["a"])
    assert "new" not in root_of(copies["c"])


def root_of(path):
    connection = ZODB.connection(FileStorage(str(path), read_only=True))
    try:
        return dict(connection.root())
    finally:
        connection.close()
