"""Points and reachable ranges: of real sets and files, and of long journals."""

import contextlib
import dataclasses
import datetime
import json
import time

import pytest
import ZEO
import ZODB

from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.commands import cluster as front
from tidstorage.engines.filestorage import last_tid
from tidstorage.errors import NotReachable
from tidstorage.points import journal, published
from tidstorage.points.entries import Acknowledgement, Published, entry_to_json
from tidstorage.system import clock
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.damage.rebase import rebase
from tidstorage.verbs.moments import restore_sources
from tidstorage.verbs.moments.goal import UNVERIFIED
from tidstorage.verbs.moments.listed_points import list_points_and_ranges
from tidstorage.verbs.moments.reachable_ranges import GONE, LOST, UNKNOWN
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_in_place,
)

pytestmark = pytest.mark.integration
HALF = HalfCommit(b"h" * 16, {"catalog": 1}, ("root",))


def ago(seconds):
    return clock.now() - datetime.timedelta(seconds=seconds)


def at(moment, timeline=1, verified=True, damage=(), last=1 << 60):
    vector = dict.fromkeys(("catalog", "documents", "root"), last)
    return Point(vector, moment, "stamps", timeline, verified, damage)


def write_journal(cluster, *points):
    journal.append(cluster.daemon.journal, *map(Published, points))


def told(cluster, limit=20):
    """(timeline, begin, end, what it can be restored from, or why not)."""
    return [
        (each.timeline, each.begin, each.end, *(each.sources or (each.reason,)))
        for each in list_points_and_ranges(cluster, limit).ranges
    ]


def test_a_restore_leaves_what_only_sets_still_hold(small):
    """The lost part of a timeline is there as far as a set holds it."""
    cluster = small.cluster()
    small.write(1, 3)
    first = back_up(cluster)
    small.write(2, 3)
    between = at(clock.now())
    small.write(3, 3)
    second = back_up(cluster)
    late = at(clock.now())
    write_journal(cluster, at(first.point.time), between, late)
    begin = first.point.time
    (range_, rest) = told(cluster)[::-1]
    assert range_ == (
        1,
        begin,
        second.point.time,
        restore_sources.LIVE,
        f"set {second.id}",
    )
    assert rest == (1, second.point.time, late.time, restore_sources.LIVE)
    small.stop()
    restore_in_place(cluster, Request(set_id=first.id))
    (now, lost, kept) = told(cluster)
    assert kept == (1, begin, second.point.time, f"set {second.id}")
    assert lost == (1, second.point.time, late.time, LOST)
    assert now[0] == 2 and now[1] == now[2] and now[3] == restore_sources.LIVE
    # A set that is not whole holds nothing.
    stored = second.storage("root").files[-1]
    if second.storage("root").kind != "unchanged":
        (cluster.backup.directory / stored.path).unlink()
        assert f"set {second.id}" not in {each[3] for each in told(cluster)}


def test_sets_go_on_where_the_journal_ends(small):
    cluster = small.cluster()
    small.write(1, 3)
    first = back_up(cluster)
    small.write(2, 3)
    last = at(clock.now())
    second = back_up(cluster)
    write_journal(cluster, at(first.point.time), last)
    both = (restore_sources.LIVE, f"set {second.id}")
    assert told(cluster) == [(1, first.point.time, second.point.time, *both)]


def test_sets_without_a_journal(small):
    """Two sets, the later of which goes on from the earlier one."""
    cluster = small.cluster()
    small.write(1, 3)
    first = back_up(cluster)
    small.write(2, 3)
    second = back_up(cluster)
    for storage in cluster.storages:
        storage.data_file.rename(storage.data_file.with_suffix(".lost"))
    assert told(cluster) == [
        (1, first.point.time, second.point.time, f"set {second.id}")
    ]


def test_before_the_next_sets_floor_nobody_knows_what_was_unstamped(small):
    """The set counted what its own floor left to count, and the journal is lost."""
    cluster = small.cluster()
    small.write(1, 3)
    first = back_up(cluster)
    write_unstamped(small)
    small.write(2, 3)
    between = clock.now()
    small.write(3, 3)
    floor = rebase(cluster).floor
    small.write(4, 3)
    second = back_up(cluster)
    cluster.daemon.journal.unlink()

    reachable, unknown, own = told(cluster)
    assert own[1:3] == (first.point.time, first.point.time)
    assert unknown == (1, first.point.time, floor.time, UNKNOWN)
    assert reachable[1:] == (
        *(floor.time, second.point.time),
        *(restore_sources.LIVE, f"set {second.id}"),
    )
    # What is called unknown is not offered, and a restore finds out.
    small.stop()
    with pytest.raises(NotReachable, match="writers without stamps"):
        restore_in_place(cluster, Request(moment=between))


def write_unstamped(small):
    for server in small.servers:
        for storage in server.storages:
            with (
                contextlib.closing(
                    ZODB.DB(ZEO.client(server.address, storage=storage))
                ) as database,
                database.transaction() as connection,
            ):
                connection.root()["unstamped"] = True


def test_what_was_packed_away_is_a_gap(small):
    cluster = small.cluster()
    small.write(1, 6, group=["catalog", "documents", "root"])
    old = at(ago(1000), last=1)
    pack(small)
    small.write(2, 3)
    new = at(clock.now())
    write_journal(cluster, old, new)
    later, gap = told(cluster)
    assert gap == (1, old.time, new.time, GONE)
    assert later == (1, new.time, new.time, restore_sources.LIVE)


def pack(small):
    for server in small.servers:
        for storage in server.storages:
            with contextlib.closing(ZEO.client(server.address, storage=storage)) as one:
                one.pack(wait=True)


def test_unverified_stretches_and_lost_timelines_are_gaps(small):
    cluster = small.cluster()
    moments = [ago(seconds) for seconds in (900, 800, 700, 600, 500, 400)]
    write_journal(
        cluster,
        at(moments[0]),
        at(moments[1]),
        at(moments[2], verified=False),
        at(moments[3]),
        at(moments[4], timeline=2),
        at(moments[5], timeline=2),
    )
    assert told(cluster) == [
        (2, moments[4], moments[5], restore_sources.LIVE),
        (1, moments[3], moments[3], LOST),
        (1, moments[1], moments[3], UNVERIFIED),
        (1, moments[0], moments[1], LOST),
    ]


def test_damage_inside_until_it_is_accepted(small, monkeypatch, capsys):
    cluster = small.cluster()
    monkeypatch.setattr(front, "open_cluster", lambda _: cluster)
    assert front.main(["points"]) == 0
    assert "There is no coherency point yet" in capsys.readouterr().out
    write_journal(cluster, at(ago(90)), at(ago(60), damage=[HALF]))
    for damaged in (1, 0):
        assert front.main(["points", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [each["unacknowledged"] for each in found["points"]] == [damaged, 0]
        assert found["ranges"][0]["damaged"] == bool(damaged)
        assert front.main(["points"]) == 0
        said = capsys.readouterr().out
        assert "2 of 2 points" in said and "live files" in said
        accepted = Acknowledgement(clock.now(), HALF.commit_id, "test")
        journal.append(cluster.daemon.journal, accepted)


def test_a_long_journal_is_read_fast(tmp_path):
    """200,000 points, 58 MB: two and a half days of one each second."""
    path = tmp_path / "journal"
    begin = ago(10**6)
    line = json.dumps(entry_to_json(Published(at(begin)))).encode() + b"\n"
    path.write_bytes(line * 200_000)
    last = at(clock.now())
    journal.append(path, Published(last))
    # Of the processor, since others use the machine.
    started = time.process_time()
    found = published.read(path, 20)
    seconds = time.process_time() - started
    assert found.number == 200_001 and len(found.newest) == 20
    assert found.newest[-1] == last and found.series[0].last == last
    assert seconds < 5, seconds
    assert published.read(path, None).number == 200_001


def test_a_set_holds_all_since_its_last_pack(small):
    """Also what the journal knows of before the first set, and up to its point."""
    cluster = small.cluster()
    small.write(1, 6, group=["catalog", "documents", "root"])
    old = at(clock.now(), last=1)
    pack(small)
    small.write(2, 3)
    since = dataclasses.replace(at(clock.now()), vector=ends(cluster))
    small.write(3, 3)
    last = dataclasses.replace(at(clock.now()), vector=ends(cluster))
    write_journal(cluster, old, since, last)
    made = back_up(cluster)
    for storage in cluster.storages:
        storage.data_file.rename(storage.data_file.with_suffix(".lost"))
    held, gap = told(cluster)
    assert held == (1, since.time, made.point.time, f"set {made.id}")
    assert gap == (1, old.time, since.time, GONE)


def ends(cluster):
    return {each.id: last_tid(each.data_file) for each in cluster.storages}
