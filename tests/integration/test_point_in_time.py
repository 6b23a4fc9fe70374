"""Restores to a time, or to a point that has no set of its own."""

import argparse
import contextlib
import datetime
import json

import pytest
import records
import ZEO
from backup_sets import backup_directory
from real_processes import wait_until
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData

from tidstorage.coherence import tid
from tidstorage.coherence.cut import Record, coherent_cut
from tidstorage.coherence.point import Point
from tidstorage.commands import restore as verb
from tidstorage.engines import filestorage
from tidstorage.errors import (
    Damaged,
    NotReachable,
    UnknownStorage,
    WrongTime,
    WrongUsage,
)
from tidstorage.points import journal
from tidstorage.points.beside import point_path, read_point
from tidstorage.points.entries import Floor, Published
from tidstorage.system import clock
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import preview_in_place, restore_in_place

pytestmark = pytest.mark.integration


def contents(cluster):
    return {s.id: records.read(s.data_file) for s in cluster.storages}


def ends(cluster):
    return {s.id: filestorage.last_tid(s.data_file) for s in cluster.storages}


def moment_after_all(cluster):
    """A time later than that of every commit so far; those to come are later."""
    newest = max(map(tid.to_time, ends(cluster).values()))
    return wait_until(
        lambda: (now := clock.now()) > newest and now, "the clock goes on"
    )


def publish(cluster, **options):
    """Write down the present state, as a daemon would; nobody may be writing."""
    made = Point(ends(cluster), moment_after_all(cluster), "stamps", **options)
    journal.append(cluster.daemon.journal, Published(made))
    return made


@pytest.fixture
def history(small):
    """(cluster, first set, a time, what was there at it, second set); stopped."""
    cluster = small.cluster()
    small.write(1, 6)
    first = back_up(cluster)
    small.write(2, 8)
    moment = moment_after_all(cluster)
    then = ends(cluster)
    small.write(3, 8)
    second = back_up(cluster)
    small.stop()
    return cluster, first, moment, then, second


def restore(cluster, capsys, *arguments):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    assert verb.run(parser.parse_args(arguments), cluster) == 0
    return capsys.readouterr().out


def test_a_time_between_two_sets(history, capsys):
    cluster, first, moment, then, second = history
    assert then != ends(cluster) != first.point.vector
    said = restore(cluster, capsys, "--to", moment.isoformat())
    assert ends(cluster) == then
    assert f"restored: set {second.id}" in said
    assert f"asked for: {clock.in_both(moment)}" in said
    assert f"after point {first.point.id}" in said and "left out" not in said
    assert records.violations(contents(cluster), then) == []
    beside = read_point(point_path(cluster.storages[0].data_file))
    assert (beside.vector, beside.timeline, beside.verified) == (then, 2, True)


def test_a_dry_run_finds_the_same_and_changes_nothing(history, capsys):
    cluster, first, moment, then, second = history
    before = ends(cluster)
    arguments = ("--to", moment.isoformat(), "--dry-run", "--json")
    found = json.loads(restore(cluster, capsys, *arguments))
    assert found["set"] == second.id and found["floor"] == first.point.id
    assert tid.vector_from_text(found["reached"]["vector"]) == then
    assert found["reached"]["transactions"] == 8
    assert ends(cluster) == before
    # Without the live files only the least is known.
    for storage in cluster.storages:
        storage.data_file.rename(storage.data_file.with_suffix(".lost"))
    found = json.loads(restore(cluster, capsys, *arguments))
    assert found["reached"] is None
    said = restore(cluster, capsys, *arguments[:-1])
    assert f"reached: at least point {first.point.id}" in said


def test_a_point_that_a_later_one_of_an_earlier_time_follows(small, capsys):
    """As a floor does that was computed before what was published meanwhile."""
    cluster = small.cluster()
    small.write(1, 6)
    back_up(cluster)
    small.write(2, 8)
    then, moment = ends(cluster), moment_after_all(cluster)
    wanted = Point(then, moment, "stamps")
    small.write(3, 8)
    back_up(cluster)
    small.stop()
    before = moment - datetime.timedelta(milliseconds=1)
    floor = Point(ends(cluster), before, "stamps")
    entries = Floor("accepted", floor), Published(wanted), Published(floor)
    journal.append(cluster.daemon.journal, *entries)
    restore(cluster, capsys, "--to", wanted.id)
    assert ends(cluster) == then


def test_every_moment_gives_the_greatest_coherent_cut(history):
    """Also between the two records of one transaction, which is then left out."""
    cluster, first, _, _, second = history
    content = contents(cluster)
    held = {
        storage: [Record(*each) for each in found] for storage, found in content.items()
    }
    after_first = sorted(
        tid.to_time(number)
        for storage, found in content.items()
        for number, _ in found
        if first.point.vector[storage] < number <= second.point.vector[storage]
    )
    left_out = 0
    for at in after_first[::2]:
        for moment in (at, at - datetime.timedelta(microseconds=3)):
            if not first.point.time < moment < second.point.time:
                continue
            until = {storage: tid.last_at(moment) for storage in held}
            found = preview_in_place(cluster, Request(moment=moment)).cut
            best = coherent_cut(held, first.point.vector, until=until)
            assert found.vector == best.strict
            assert records.violations(content, found.vector) == []
            kept = [
                sum(last < each.tid <= until[storage] for each in held[storage])
                for storage, last in found.vector.items()
            ]
            assert bool(found.left_out) == any(kept)
            left_out += bool(found.left_out)
    assert left_out > 2


def test_what_was_committed_by_then_but_does_not_stand_is_told(history, capsys):
    cluster, first, _, _, second = history
    held = contents(cluster)
    halfway, split = next(
        (tid.to_time(number), mark.commit_id)
        for storage, found in held.items()
        for number, mark in found
        if first.point.vector[storage] < number <= second.point.vector[storage]
        if any(
            other and other.commit_id == mark.commit_id
            for each in held
            for at, other in held[each]
            if tid.last_at(tid.to_time(number)) < at
        )
    )
    said = restore(cluster, capsys, "--to", halfway.isoformat())
    assert "transaction(s) committed by then" in said and "left out: 0" not in said
    now = contents(cluster)
    assert records.violations(now, ends(cluster)) == []
    kept = {mark.commit_id for found in now.values() for _, mark in found if mark}
    assert split not in kept


def test_a_published_point_without_a_set(small, capsys):
    cluster = small.cluster()
    small.write(1, 4)
    back_up(cluster)
    small.write(2, 5)
    wanted = publish(cluster)
    small.write(3, 5)
    back_up(cluster)
    small.stop()
    said = restore(cluster, capsys, "--to", wanted.id)
    assert ends(cluster) == wanted.vector
    assert f"0 transaction(s) after point {wanted.id}" in said


def test_some_storages_elsewhere_as_of_the_last_point_before(small, capsys, tmp_path):
    cluster = small.cluster()
    small.write(1, 4)
    back_up(cluster)
    small.write(2, 5)
    wanted = publish(cluster)
    small.write(3, 5)
    moment = moment_after_all(cluster)
    small.write(4, 2)
    back_up(cluster)
    into = tmp_path / "some"
    arguments = ("--to", moment.isoformat(), "--storage", "documents")
    with pytest.raises(WrongUsage, match="would not fit"):
        restore(cluster, capsys, *arguments)
    restore(cluster, capsys, *arguments, "--into", str(into))
    assert [each.name for each in into.iterdir()] == ["documents"]
    restored = records.read(into / "documents" / "Data.fs")
    assert restored[-1][0] == wanted.vector["documents"]
    with pytest.raises(UnknownStorage, match="no storage attic"):
        restore(
            cluster, capsys, "--storage", "attic", "--into", str(tmp_path / "other")
        )


def test_a_time_that_no_set_reaches_yet(history, capsys):
    cluster, first, _, _, second = history
    late = second.point.time + datetime.timedelta(microseconds=1)
    with pytest.raises(NotReachable, match="no set reaches it yet") as caught:
        restore(cluster, capsys, "--to", late.isoformat())
    assert "bin/cluster backup makes one that does" in caught.value.hint
    assert f"the nearest before: --to {second.point.id}" in caught.value.hint
    with pytest.raises(WrongTime, match="yet to come"):
        restore(cluster, capsys, "--to", "2999-01-01 00:00")
    with pytest.raises(WrongTime, match="not a time"):
        restore(cluster, capsys, "--to", "noon")
    early = first.point.time - datetime.timedelta(days=400)
    with pytest.raises(NotReachable, match="timeline 1 began at") as caught:
        restore(cluster, capsys, "--to", early.isoformat())
    assert f"the nearest after: --to {first.point.id}" in caught.value.hint


def test_writers_without_stamps_make_a_gap(small, capsys):
    cluster = small.cluster()
    small.write(1, 4)
    before = back_up(cluster)
    small.write(2, 3)
    reachable = moment_after_all(cluster)
    unstamped(small)
    small.write(3, 3)
    moment = moment_after_all(cluster)
    small.write(4, 3)
    after = back_up(cluster)
    small.stop()
    with pytest.raises(NotReachable, match="writers without stamps") as caught:
        restore(cluster, capsys, "--to", moment.isoformat())
    assert f"the nearest before: --to {before.point.id}" in caught.value.hint
    assert f"the nearest after: --to {after.point.id}" in caught.value.hint
    # What lies before them can be told.
    restore(cluster, capsys, "--to", reachable.isoformat())
    assert records.violations(contents(cluster), ends(cluster)) == []


def unstamped(small):
    """One transaction of a writer without our hook."""
    small.write(9, 0, bare="root")


def test_what_was_packed_away_is_said_with_what_is_left(small, capsys):
    cluster = small.cluster()
    small.write(1, 6, group=["catalog", "documents", "root"])
    first = back_up(cluster)
    small.write(2, 3)
    moment = moment_after_all(cluster)
    small.write(3, 3)
    pack(small)
    small.write(4, 3)
    later = moment_after_all(cluster)
    last = back_up(cluster)
    small.stop()
    with pytest.raises(NotReachable, match="packed away") as caught:
        restore(cluster, capsys, "--to", moment.isoformat())
    assert f"the nearest before: --to {first.point.id}" in caught.value.hint
    assert f"the nearest after: --to {last.point.id}" in caught.value.hint
    with pytest.raises(NotReachable, match="packed away"):
        restore(cluster, capsys, "--to", later.isoformat())


def pack(small):
    for server in small.servers:
        for storage in server.storages:
            with contextlib.closing(ZEO.client(server.address, storage=storage)) as one:
                one.pack(wait=True)


def test_each_timeline_by_the_time_it_was_lived(small, capsys):
    cluster = small.cluster()
    small.write(1, 4)
    first = back_up(cluster)
    small.write(2, 4)
    moment = moment_after_all(cluster)
    then = ends(cluster)
    small.write(3, 4)
    left = back_up(cluster)
    lost = moment_after_all(cluster)
    small.stop()
    restore_in_place(cluster, Request(set_id=first.id))
    small.start()
    small.write(4, 4)
    later = moment_after_all(cluster)
    afterwards = ends(cluster)
    small.write(5, 4)
    back_up(cluster)
    small.stop()
    with pytest.raises(NotReachable, match="timeline 2 began at"):
        restore(cluster, capsys, "--to", moment.isoformat(), "--timeline", "2")
    with pytest.raises(NotReachable, match="was left by a restore"):
        restore(cluster, capsys, "--to", lost.isoformat(), "--timeline", "1")
    with pytest.raises(NotReachable, match="nothing is known of timeline 7"):
        restore(cluster, capsys, "--to", moment.isoformat(), "--timeline", "7")
    restore(cluster, capsys, "--to", later.isoformat())
    assert ends(cluster) == afterwards
    restore(cluster, capsys, "--to", moment.isoformat())
    assert ends(cluster) == then
    restore(cluster, capsys, "--timeline", "1")
    assert ends(cluster) == left.point.vector


@pytest.fixture
def torn(small):
    """(cluster, a time after a half commit, a set that reaches it)."""
    cluster = small.cluster()
    small.write(1, 4)
    back_up(cluster)
    small.write(2, 3)
    before = ends(cluster)
    small.write(3, 1, half=["catalog", "root"])
    small.write(4, 3, group=["catalog", "documents", "root"])
    moment = moment_after_all(cluster)
    then = ends(cluster)
    small.write(5, 3)
    made = back_up(cluster)
    small.stop()
    return cluster, before, moment, then, made


def test_half_commits_below_a_time_are_the_operators_choice(torn, capsys):
    cluster, before, moment, then, made = torn
    half = made.point.damage[0].commit_id.hex()
    arguments = ("--to", moment.isoformat())
    with pytest.raises(Damaged, match=half) as caught:
        restore(cluster, capsys, *arguments)
    assert "--strict loses" in str(caught.value)
    found = preview_in_place(cluster, Request(moment=moment, policy="strict")).cut
    assert all(found.vector[each] <= then[each] for each in then)
    restore(cluster, capsys, *arguments, "--tolerant")
    assert ends(cluster) == then
    beside = read_point(point_path(cluster.storages[0].data_file))
    assert beside.vector != then, "the half commit would be forgotten"
    restore(cluster, capsys, *arguments, "--strict", "--timeline", "1")
    assert records.violations(contents(cluster), ends(cluster)) == []
    assert ends(cluster) == found.vector
    assert ends(cluster)["catalog"] == before["catalog"]


@pytest.mark.parametrize("how", ["--copy", "--strict"])
def test_what_saw_a_vote_that_was_given_up_comes_back(small, capsys, how):
    """A server killed amid a vote reports its TID, which no file ever holds."""
    cluster = small.cluster()
    small.write(1, 4)
    back_up(cluster)
    client = ClientStorage(small.beta.address, storage="documents")
    metadata = TransactionMetaData()
    client.tpc_begin(metadata)
    client.tpc_vote(metadata)
    small.beta.kill()
    small.beta.start()
    client.close()
    small.write(3, 4, group=["root"])
    moment = moment_after_all(cluster)
    then = ends(cluster)
    small.write(4, 3, group=["documents"])
    back_up(cluster)
    small.stop()
    assert "left out" not in restore(cluster, capsys, "--to", moment.isoformat(), how)
    assert ends(cluster) == then
    # The floor of what follows is one that the files reach.
    assert read_point(point_path(cluster.storages[0].data_file)).vector == then
    small.start()
    small.write(5, 2)
    assert not back_up(cluster).point.damage


def test_the_oldest_set_that_reaches_it_is_taken(history):
    cluster, first, moment, _, second = history
    assert preview_in_place(cluster, Request(moment=moment)).set_id == second.id
    at_first = first.point.time
    assert preview_in_place(cluster, Request(moment=at_first)).set_id == first.id
    # Where it is not whole, a later one still holds the same.
    folder = cluster.backup.directory / "sets" / first.id / "manifest.json"
    assert [each.manifest.id for each in backup_directory(cluster).sets()] == [
        second.id,
        first.id,
    ]
    folder.rename(folder.with_suffix(".away"))
    found = preview_in_place(cluster, Request(moment=at_first))
    assert found.set_id == second.id and found.cut.vector == first.point.vector
