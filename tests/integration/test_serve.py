"""A server killed amid a vote starts again with a true last TID."""

import signal
import subprocess
import sys

import pytest
import transaction
from real_processes import PATIENCE, free_port, wait_until
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.DB import DB

from tidstorage.cluster.load import load_cluster
from tidstorage.commands.scripts import serve
from tidstorage.deployment import install
from tidstorage.engines import filestorage
from tidstorage.errors import InterruptedRestore
from tidstorage.operation.unfinished import swap_journal
from tidstorage.processes import before_serving

pytestmark = pytest.mark.integration


def start(cluster, log):
    return subprocess.Popen(
        [sys.executable, cluster.bin_directory / "zeo-main"], stdout=log, stderr=log
    )


def test_a_vote_that_was_cut_off_is_not_reported_as_the_last_transaction(tmp_path):
    zeo_port, daemon_port = free_port(), free_port()
    (tmp_path / "cluster.toml").write_text(
        f'[[zeo]]\nname = "main"\naddress = "127.0.0.1:{zeo_port}"\n'
        '[[storage]]\nid = "root"\nmount-point = "/"\n'
        f'[tidstorage]\naddress = "127.0.0.1:{daemon_port}"\n'
    )
    cluster = load_cluster(tmp_path / "cluster.toml")
    install.write_files(cluster)
    path = cluster.storage("root").data_file
    with (tmp_path / "log").open("wb") as log:
        server = start(cluster, log)
        try:
            database = DB(
                ClientStorage(
                    ("127.0.0.1", zeo_port), storage="root", wait_timeout=PATIENCE
                )
            )
            with database.transaction() as connection:
                connection.root()["x"] = 1
            finished = filestorage.last_tid(path)
            database.close()

            voter = ClientStorage(
                ("127.0.0.1", zeo_port), storage="root", wait_timeout=PATIENCE
            )
            metadata = TransactionMetaData()
            voter.tpc_begin(metadata)
            voter.store(voter.new_oid(), b"\0" * 8, b"pickle" * 1000, "", metadata)
            voter.tpc_vote(metadata)
            wait_until(lambda: path.stat().st_size > 5000, "the vote is in the file")
            server.send_signal(signal.SIGKILL)
            server.wait()
            voter.close()

            # And as if it had died amid a pack, between two renames: a server would
            # begin with an empty file.
            path.rename(f"{path}.old")
            path.with_name("Data.fs.pack").write_bytes(b"FS30")
            server = start(cluster, log)
            reader = ClientStorage(
                ("127.0.0.1", zeo_port), storage="root", wait_timeout=PATIENCE
            )
            reported = int.from_bytes(reader._call("lastTransaction"), "big")
            reader.close()
        finally:
            server.kill()
            server.wait()
            transaction.abort()
    assert reported == finished
    kept = list(path.parent.glob("Data.fs.unfinished-*Z"))
    assert len(kept) == 1
    assert b"pickle" in kept[0].read_bytes()


def test_no_server_opens_what_an_interrupted_restore_left(tmp_path, monkeypatch):
    description = tmp_path / "cluster.toml"
    description.write_text(
        '[[zeo]]\nname = "main"\n[[storage]]\nid = "root"\nmount-point = "/"\n'
    )
    journal = swap_journal(load_cluster(description))
    journal.parent.mkdir(parents=True)
    journal.touch()
    monkeypatch.setattr(before_serving, "cut_unfinished_ends", pytest.fail)
    status = serve.main(["--cluster-file", str(description), "main"])
    assert status == InterruptedRestore.exit_status
