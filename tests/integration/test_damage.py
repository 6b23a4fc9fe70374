"""Half commits as an operator meets them: real servers, daemon, sets and verbs."""

import contextlib
import json

import pytest
import ZEO
from daemons import DaemonProcess, journal_entries
from real_processes import PATIENCE, wait_until

from tidstorage.commands import cluster as front
from tidstorage.engines.filestorage import last_tid, read_records
from tidstorage.errors import (
    BarrierFailed,
    CannotUndo,
    Damaged,
    NotConfirmed,
    NotConnected,
    UnknownCommit,
)
from tidstorage.points import journal
from tidstorage.points.beside import point_path, read_point
from tidstorage.points.entries import (
    Acknowledgement,
    Damage,
    Floor,
    Published,
    WireDamage,
)
from tidstorage.system import clock
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.damage import findings, rebase
from tidstorage.verbs.damage.accept import acknowledge, login_user
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_in_place,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def cluster(small, monkeypatch):
    made = small.cluster()
    monkeypatch.setattr(front, "open_cluster", lambda _: made)
    return made


@contextlib.contextmanager
def daemon_of(small, also=""):
    """A daemon that observes the small cluster, its files where the verbs look."""
    configuration = small.folder / "tidstorage.conf"
    configuration.write_text(
        also
        + "".join(
            f"<storage {storage}>\nserver {server.address[0]}:{server.address[1]}\n"
            f"path {server.data_file(storage)}\n</storage>\n"
            for server in small.servers
            for storage in server.storages
        )
    )
    daemon = DaemonProcess(small.folder, "-c", configuration).start()
    try:
        wait_for(small, daemon, lambda last: True)
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.kill()


def ends(small):
    return {s: last_tid(e.data_file(s)) for e in small.servers for s in e.storages}


def published(daemon):
    return [
        entry.point
        for entry in journal_entries(daemon.journal)
        if isinstance(entry, Published)
    ]


def wait_for(small, daemon, condition):
    """The first newest point that covers all there is and meets the condition."""

    def newest():
        found = published(daemon)
        if found and found[-1].vector == ends(small) and condition(found[-1]):
            return found[-1]
        return None

    return wait_until(newest, "such a point in the journal")


def tear(small):
    """Half a commit: catalog has it, root does not; then others follow."""
    small.write(2, 1, half=["catalog", "root"])
    small.write(3, 5, group=["catalog", "documents", "root"])


def verb(capsys, *arguments):
    """(exit status, what it printed)."""
    capsys.readouterr()
    status = front.main(arguments)
    return status, capsys.readouterr()


def damage_as_json(capsys, *arguments):
    status, said = verb(capsys, "damage", "--json", *arguments)
    assert status == 0, said.err
    return json.loads(said.out)


def test_accepted_damage_is_damage_no_more(small, cluster, capsys):
    """Listed, accepted: K is clean, backups are, and a restore asks nothing."""
    small.write(1, 4)
    with daemon_of(small) as daemon:
        back_up(cluster)
        tear(small)
        torn = wait_for(small, daemon, lambda last: last.damage)
        made = back_up(cluster)
        (half,) = made.point.damage
        assert torn.damage == (half,)

        (found,) = damage_as_json(capsys)["half_commits"]
        assert found["commit"] == half.commit_id.hex()
        assert found["missing"] == ["root"] and [*found["present"]] == ["catalog"]
        assert found["acknowledged"] is None
        assert found["records"]["catalog"] == {
            "user": "/ editor",
            "description": "/site/front: change the title",
        }
        _, said = verb(capsys, "damage")
        assert "none accepted" in said.out and "never in root" in said.out
        assert "by editor, /site/front: change the title" in said.out
        assert f"--strict would lose {made.strict_loss.transactions}" in said.out

        prefix = half.commit_id.hex()[:6]
        assert damage_as_json(capsys, "--acknowledge", prefix, "--dry-run")["new"]
        assert not findings.find(cluster).found[0].acknowledgement
        accepted = damage_as_json(capsys, "--acknowledge", prefix)
        beside = read_point(point_path(cluster.storages[0].data_file))
        assert accepted["new"] and accepted["floor"] == beside.to_json()
        clean = wait_for(small, daemon, lambda last: not last.damage)
        assert clean.vector == torn.vector and clean.verified
        small.write(4, 3)
        assert not wait_for(small, daemon, lambda last: True).damage
        _, said = verb(capsys, "damage")
        assert "1 accepted" in said.out and "--strict" not in said.out
        # What follows from it has no damage either, also over a restart.
        daemon.kill()
        daemon.start()
        small.write(5, 3)
        assert not wait_for(small, daemon, lambda last: True).damage
        after = back_up(cluster)
        assert after.point.damage == () and after.strict_loss is None
        daemon.stop()
    small.stop()
    # The set that was made before it was accepted needs no flag any more.
    report = restore_in_place(cluster, Request(set_id=made.id))
    assert report.point.vector == made.point.vector
    assert ends(small) == made.point.vector


def test_a_second_time_and_an_unknown_commit(small, cluster, capsys):
    """Without any daemon: the files alone tell of it."""
    small.write(1, 2)
    back_up(cluster)
    tear(small)
    small.stop()
    (finding,) = findings.find(cluster).found
    commit = finding.half_commit.commit_id.hex()
    for wrong in ("ffff", "", "x"):
        status, said = verb(capsys, "damage", "--acknowledge", wrong)
        assert status == UnknownCommit.exit_status
        assert "there is no half commit" in said.err and "hint:" in said.err
    assert damage_as_json(capsys, "--acknowledge", commit)["new"]
    first = journal_entries(cluster.daemon.journal)
    assert not damage_as_json(capsys, "--acknowledge", commit)["new"]
    assert journal_entries(cluster.daemon.journal) == first
    kinds = [type(each) for each in first]
    assert kinds == [Damage, Acknowledgement, Floor]
    (found,) = damage_as_json(capsys)["half_commits"]
    assert found["acknowledged"]["by"] == login_user()


def test_damage_that_is_left_stays_in_the_way(small, cluster, capsys):
    """The floor goes no further than what nobody accepted, whatever is."""
    small.write(1, 2)
    back_up(cluster)
    small.write(2, 1, half=["documents", "root"])
    small.write(3, 3, group=["catalog", "documents", "root"])
    tear(small)
    made = back_up(cluster)
    earlier, later = findings.find(cluster).unacknowledged
    assert earlier.since <= later.since
    accepted = acknowledge(cluster, later.half_commit.commit_id.hex())
    assert accepted.floor is None or all(
        accepted.floor.vector[each] < last
        for each, last in earlier.half_commit.present.items()
    )
    again = back_up(cluster)
    assert [each.commit_id for each in again.point.damage] == [
        earlier.half_commit.commit_id
    ]
    assert again.acknowledged == (later.half_commit.commit_id,)
    small.stop()
    for set_id in (made.id, again.id):
        with pytest.raises(Damaged) as caught:
            restore_in_place(cluster, Request(set_id=set_id))
        assert earlier.half_commit.commit_id.hex() in str(caught.value)
        assert later.half_commit.commit_id.hex() not in str(caught.value)
    restore_in_place(cluster, Request(policy="tolerant"))
    assert ends(small) == again.point.vector
    # It is known still, and the other one is still accepted.
    (left,) = findings.find(cluster).unacknowledged
    assert left.half_commit.commit_id == earlier.half_commit.commit_id
    acknowledge(cluster, left.half_commit.commit_id.hex())
    restore_in_place(cluster, Request())
    assert ends(small) == again.point.vector


def test_an_accepted_set_outlives_the_journal(small, cluster):
    """On a new machine there are only the backups."""
    small.write(1, 2)
    back_up(cluster)
    tear(small)
    (finding,) = findings.find(cluster).found
    journal.append(
        cluster.daemon.journal,
        Acknowledgement(clock.now(), finding.half_commit.commit_id, "test"),
    )
    made = back_up(cluster)
    small.stop()
    for lost in (False, True):
        cluster.daemon.journal.write_text("{broken\n")
        if lost:
            cluster.daemon.journal.unlink()
        restore_in_place(cluster, Request())
        assert ends(small) == made.point.vector


def test_rebase_accepts_what_is_torn_and_the_daemon_goes_on(small, cluster, capsys):
    small.write(1, 4)
    with daemon_of(small) as daemon:
        back_up(cluster)
        tear(small)
        # Nothing of catalog came after this one: no file proves it.
        small.write(6, 1, half=["documents", "catalog"], group=["root"])
        torn = wait_for(small, daemon, lambda last: len(last.damage) == 2)
        before = journal_entries(cluster.daemon.journal)
        beside = read_point(point_path(cluster.storages[0].data_file))
        status, said = verb(capsys, "rebase", "--dry-run")
        assert status == 0 and "2 half commit(s) would be accepted" in said.out
        assert all(half.commit_id.hex() in said.out for half in torn.damage)
        status, said = verb(capsys, "rebase")
        assert status == NotConfirmed.exit_status and "--yes" in said.err
        assert "would be the new floor" in said.out
        assert journal_entries(cluster.daemon.journal) == before
        assert read_point(point_path(cluster.storages[0].data_file)) == beside

        status, said = verb(capsys, "rebase", "--yes", "--json")
        done = json.loads(said.out)
        assert status == 0 and done["done"] and len(done["accepted"]) == 2
        for storage in cluster.storages:
            floor = read_point(point_path(storage.data_file))
            assert floor.vector == ends(small) and not floor.damage
        clean = wait_for(small, daemon, lambda last: not last.damage)
        assert clean.vector == floor.vector and clean.verified
        small.write(4, 3)
        assert not wait_for(small, daemon, lambda last: True).damage
        daemon.kill()
        daemon.start()
        small.write(5, 3)
        assert not wait_for(small, daemon, lambda last: True).damage
        assert back_up(cluster).point.damage == ()


def test_rebase_verifies_what_writers_without_stamps_wrote(small, cluster):
    """Also where nothing is torn and nothing new came."""
    with daemon_of(small) as daemon:
        # Databases are created by transactions without a stamp.
        small.write(1, 4)
        last = wait_for(small, daemon, lambda last: True)
        assert not last.verified
        done = rebase.rebase(cluster)
        assert wait_for(small, daemon, lambda last: last.verified).vector == last.vector
        assert done.floor.vector == last.vector and not done.accepted
        small.write(2, 2)
        assert wait_for(small, daemon, lambda last: True).verified


def test_rebase_needs_every_server(small, cluster):
    small.write(1, 2)
    small.beta.stop()
    with pytest.raises(BarrierFailed):
        rebase.rebase(cluster)
    assert not journal_entries(cluster.daemon.journal)


def half_of(small, storage):
    """The counter that `commit_half` writes."""
    server = next(each for each in small.servers if storage in each.storages)
    client = ZEO.DB(server.address, storage=storage, wait_timeout=PATIENCE)
    with contextlib.closing(client), client.transaction() as connection:
        return connection.root().get("half")


def test_undone_where_nothing_later_conflicts(small, cluster, capsys):
    """By a stamped transaction, and whoever looks sees nothing of it any more."""
    small.write(1, 4, group=["catalog", "documents", "root"])
    with daemon_of(small) as daemon:
        back_up(cluster)
        small.write(2, 5, half=["catalog", "root"], group=["documents", "root"])
        (half,) = wait_for(small, daemon, lambda last: last.damage).damage
        before = ends(small)
        tried = damage_as_json(capsys, "--undo", half.commit_id.hex(), "--dry-run")
        assert not tried["undone"] and tried["acknowledged"] is None
        assert half_of(small, "catalog") == 1 and ends(small) == before
        done = damage_as_json(capsys, "--undo", half.commit_id.hex()[:8])
        assert done["undone"] and done["floor"]
        assert half_of(small, "catalog") is None
        assert wait_for(small, daemon, lambda last: not last.damage).verified
        small.write(4, 3)
        assert not wait_for(small, daemon, lambda last: True).damage
        assert back_up(cluster).point.damage == ()
    found = read_records(small.alpha.data_file("catalog"), before["catalog"])
    stamp = next(found).stamp
    assert stamp is not None and stamp.participants == {"catalog"}
    assert set(stamp.vector) == {"catalog", "documents", "root"}


def test_not_undone_where_something_builds_on_it(small, cluster, capsys):
    small.write(1, 4, group=["catalog", "documents", "root"])
    back_up(cluster)
    tear(small)
    # The same object once more.
    small.write(5, 3, half=["catalog", "documents"])
    first, _ = findings.find(cluster).found
    before, kept = ends(small), journal_entries(cluster.daemon.journal)
    for options in (["--dry-run"], []):
        commit = first.half_commit.commit_id.hex()
        status, said = verb(capsys, "damage", "--undo", commit, *options)
        assert status == CannotUndo.exit_status
        assert "cannot be undone" in said.err and "by hand" in said.err
    assert ends(small) == before and journal_entries(cluster.daemon.journal) == kept
    # Nothing stays locked.
    small.write(6, 2)
    small.beta.stop()
    status, said = verb(capsys, "damage", "--undo", commit)
    assert status == NotConnected.exit_status and "documents" in said.err


def test_rebase_names_what_only_its_barrier_proves(small, cluster):
    """Nothing came after it where it is missing, and no daemon asked a server."""
    small.write(1, 4)
    back_up(cluster)
    small.write(2, 1, half=["documents", "catalog"], group=["root"])
    assert not findings.find(cluster).found
    (accepted,) = rebase.rebase(cluster).accepted
    assert accepted.half_commit.missing == ("catalog",)
    assert "stood still" in accepted.proof
    (found,) = findings.find(cluster).found
    assert found.acknowledgement is not None
    assert back_up(cluster).point.damage == ()


def test_wire_only_transactions_that_may_be_torn(small, cluster, capsys):
    """Nobody observes their storages: told is what their messages said."""
    small.write(1, 2)
    with daemon_of(small, also="transaction-timeout 0.5\n") as daemon:
        peer = daemon.peer()
        # An id is any bytes; storages that are observed are not believed.
        peer.begin("no end \udcff", "archive", "catalog", "mail")
        peer.write("blocked", archive=7)
        assert "archive" not in peer.dump()
        wait_until(lambda: peer.dump().get("archive") == 7, "it is given up")
        peer.begin("no tid", "archive", "mail")
        peer.commit("no tid", archive=9)
        wait_until(lambda: len(wire_damage(daemon)) == 2, "both are in the journal")
        first, second = damage_as_json(capsys)["wire"]
        assert first["transaction"] == "no end \udcff" and first["tids"] == {}
        assert first["storages"] == ["archive", "mail"]
        assert "no end within 0.5 s" in first["reason"] and first["time"]
        assert second["tids"] == {"archive": "0x0000000000000009"}
        _, said = verb(capsys, "damage")
        assert "No transaction is torn" not in said.out
        assert "There is no half commit.\n\n2 transaction(s) may be torn." in said.out
        assert "no end within 0.5 s of its BEGIN; TIDs told: archive none," in said.out
        assert "told: archive 0x0000000000000009, mail none" in said.out
        # What was published stays, and nobody vouches for it.
        point = wait_until(
            lambda: [e for e in wire_points(daemon) if e.vector["archive"] == 9],
            "the journal has the point",
        )[-1]
        assert not point.verified and "mail" not in point.vector
        assert peer.dump()["archive"] == 9


def wire_damage(daemon):
    return [
        each for each in journal_entries(daemon.journal) if isinstance(each, WireDamage)
    ]


def wire_points(daemon):
    return [each for each in published(daemon) if "archive" in each.vector]
