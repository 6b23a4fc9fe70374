"""What the journal calls a half commit is looked at again before it is touched."""

import contextlib
import json

import pytest
import ZEO
from daemons import DaemonProcess, journal_entries
from real_processes import PATIENCE, wait_until

from tidstorage.coherence.point import HalfCommit
from tidstorage.commands import cluster as front
from tidstorage.engines.filestorage import last_tid, read_records
from tidstorage.errors import CannotUndo, UnknownCommit
from tidstorage.points import journal
from tidstorage.points.entries import Acknowledgement, Damage, Published, Struck
from tidstorage.points.summary import summarise
from tidstorage.system import clock
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.damage import findings

pytestmark = pytest.mark.integration
ALL = ["catalog", "documents", "root"]


@pytest.fixture
def cluster(small, monkeypatch):
    made = small.cluster()
    monkeypatch.setattr(front, "open_cluster", lambda _: made)
    return made


def ends(small):
    return {s: last_tid(e.data_file(s)) for e in small.servers for s in e.storages}


def call_half(cluster, storage="catalog", missing="root"):
    """The journal's entry about a whole transaction, as if a storage lacked it."""
    records = read_records(cluster.storage(storage).data_file)
    found = [
        each for each in records if each.stamp and missing in each.stamp.participants
    ]
    half = HalfCommit(found[-2].stamp.commit_id, {storage: found[-2].tid}, (missing,))
    journal.append(cluster.daemon.journal, Damage(clock.now(), half, "a guess"))
    return half


def pack_from_outside(small, storage):
    client = ZEO.client(small.addresses[storage], storage=storage)
    with contextlib.closing(client):
        client.pack(wait=True)


def verb(capsys, *arguments):
    """(exit status, what it printed)."""
    capsys.readouterr()
    status = front.main(arguments)
    return status, capsys.readouterr()


def kinds(cluster):
    return [type(entry) for entry in journal_entries(cluster.daemon.journal)]


@pytest.mark.parametrize("option", ["--undo", "--acknowledge"])
def test_what_is_whole_is_struck_out_and_left_alone(small, cluster, capsys, option):
    small.write(1, 4, group=ALL)
    half = call_half(cluster)
    before = ends(small)
    status, said = verb(capsys, "damage", "--json")
    shown = json.loads(said.out)
    assert status == 0 and not shown["half_commits"]
    assert [each["commit"] for each in shown["contradicted"]] == [half.commit_id.hex()]

    commit = half.commit_id.hex()
    status, said = verb(capsys, "damage", option, commit, "--dry-run")
    assert status == UnknownCommit.exit_status and kinds(cluster) == [Damage]
    status, said = verb(capsys, "damage", option, commit)
    assert status == UnknownCommit.exit_status
    assert "is no half commit: every storage" in said.err and "struck out" in said.err
    assert kinds(cluster) == [Damage, Struck] and ends(small) == before

    _, said = verb(capsys, "damage")
    assert "No transaction is torn." in said.out and commit not in said.out
    assert summarise(cluster.daemon.journal).damages == {}


@pytest.mark.parametrize("lie", ["missing", "present"])
def test_a_storage_that_it_was_never_meant_for_lacks_nothing(
    small, cluster, capsys, lie
):
    """The journal is wrong about the storages; the record knows them."""
    small.write(1, 4, group=ALL)
    small.write(2, 3, group=["catalog"])
    record = [*read_records(cluster.storage("catalog").data_file)][-1]
    present = {"catalog": record.tid}
    if lie == "present":
        present["documents"] = ends(small)["documents"]
    half = HalfCommit(record.stamp.commit_id, present, ("root",))
    journal.append(cluster.daemon.journal, Damage(clock.now(), half, "a guess"))
    before = ends(small)
    status, said = verb(capsys, "damage", "--undo", half.commit_id.hex())
    assert status == UnknownCommit.exit_status and "is no half commit" in said.err
    assert ends(small) == before and kinds(cluster) == [Damage, Struck]


def test_where_no_server_is_up_the_files_tell(small, cluster, capsys):
    small.write(1, 4, group=ALL)
    half = call_half(cluster)
    small.stop()
    status, _ = verb(capsys, "damage", "--acknowledge", half.commit_id.hex())
    assert status == UnknownCommit.exit_status
    assert kinds(cluster) == [Damage, Struck]


def test_what_was_packed_away_proves_nothing(small, cluster, capsys):
    """It may be whole: it is not undone; whoever knows better may accept it."""
    small.write(1, 5, group=ALL)
    half = call_half(cluster)
    pack_from_outside(small, "root")
    before = ends(small)
    for more in ([], ["--dry-run"]):
        status, said = verb(capsys, "damage", "--undo", half.commit_id.hex(), *more)
        assert status == CannotUndo.exit_status
        assert "nobody can tell" in said.err and "root: it was packed" in said.err
    assert ends(small) == before and kinds(cluster) == [Damage]
    status, _ = verb(capsys, "damage", "--acknowledge", half.commit_id.hex())
    assert status == 0 and kinds(cluster) == [Damage, Acknowledgement]


def test_what_has_another_records_tid_is_not_undone(small, cluster, capsys):
    """Its record went with a restore, and another transaction has its TID now."""
    small.write(1, 5, group=ALL)
    last = ends(small)["catalog"]
    half = HalfCommit(b"0123456789abcdef", {"catalog": last}, ("root",))
    journal.append(cluster.daemon.journal, Damage(clock.now(), half, "a guess"))
    journal.append(cluster.daemon.journal, Published(_damaged_point(small, half)))
    before = ends(small)
    status, said = verb(capsys, "damage", "--undo", half.commit_id.hex())
    assert status == CannotUndo.exit_status and "no storage holds a record" in said.err
    assert ends(small) == before


def _damaged_point(small, half):
    from tidstorage.coherence.point import Point

    return Point(ends(small), clock.now(), "stamps", damage=(half,))


def test_a_rebase_strikes_out_what_is_whole(small, cluster, capsys):
    small.write(1, 4, group=ALL)
    half = call_half(cluster)
    status, said = verb(capsys, "rebase", "--yes", "--json")
    done = json.loads(said.out)
    assert status == 0 and not done["accepted"]
    assert [each["commit"] for each in done["struck"]] == [half.commit_id.hex()]
    assert Struck in kinds(cluster) and Acknowledgement not in kinds(cluster)


def test_a_backup_strikes_out_what_is_whole(small, cluster, caplog):
    small.write(1, 4, group=ALL)
    half = call_half(cluster)
    made = back_up(cluster)
    assert not made.point.damage and made.point.verified
    assert f"{half.commit_id.hex()} is no half commit" in caplog.text
    assert kinds(cluster) == [Damage, Struck]
    assert not findings.find(cluster).contradicted


def test_the_daemon_names_it_no_longer(small, cluster, capsys):
    """It goes on from a point that names it, and reads what was struck out."""
    small.write(1, 4, group=ALL)
    half = call_half(cluster)
    journal.append(cluster.daemon.journal, Published(_damaged_point(small, half)))
    configuration = small.folder / "tidstorage.conf"
    configuration.write_text(
        "".join(
            f"<storage {storage}>\nserver {server.address[0]}:{server.address[1]}\n"
            f"path {server.data_file(storage)}\n</storage>\n"
            for server in small.servers
            for storage in server.storages
        )
    )
    daemon = DaemonProcess(small.folder, "-c", configuration)
    assert daemon.journal == cluster.daemon.journal
    daemon.start()

    def last():
        entries = journal_entries(daemon.journal)
        return [each.point for each in entries if isinstance(each, Published)][-1]

    try:
        small.write(2, 2, group=ALL)
        wait_until(lambda: last().vector == ends(small), "the point", PATIENCE)
        assert last().damage == (half,)
        status, _ = verb(capsys, "damage", "--undo", half.commit_id.hex())
        assert status == UnknownCommit.exit_status
        wait_until(lambda: not last().damage, "a point without it", PATIENCE)
    finally:
        daemon.kill()
