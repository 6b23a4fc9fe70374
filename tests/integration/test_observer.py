"""The daemon observes real storages, whatever their servers go through."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ZEO
from daemons import running_daemon
from journals import journal_entries
from real import PATIENCE, wait_until, zeo_server
from sites import TESTS, Committer, Site
from ZEO.Exceptions import ServerException
from ZODB.Connection import TransactionMetaData

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.daemon import observation
from tidstorage.daemon import settings as configuration
from tidstorage.daemon.observation import Observation
from tidstorage.daemon.resuming import LastRun
from tidstorage.daemon.writers import Writers
from tidstorage.engines.filestorage import last_tid
from tidstorage.points import journal, tid_log
from tidstorage.points.beside import write_beside
from tidstorage.points.entries import Acknowledgement, Damage, Entry, Floor, Timeline
from tidstorage.system.clock import now
from tidstorage.wire import protocol
from tidstorage.wire.protocol import Hello
from tidstorage.zeo import server_errors

pytestmark = pytest.mark.integration


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_the_point_follows_what_is_written(site):
    site.write(5)
    site.daemon.start()
    first = site.bootstrapped()
    assert first == site.ends()
    begin = wait_until(site.points, "the journal")[0]
    assert begin.source == "barrier" and begin.verified
    site.write(30)
    ends = site.wait_for_all()
    assert all(ends[each] >= first[each] for each in ends) and ends != first
    last = wait_until(
        lambda: [p for p in site.points() if p.vector == ends], "it is in the journal"
    )[-1]
    assert last.source == "stamps" and last.verified and not last.damage
    wait_until(lambda: tid_log.read_last(site.daemon.tid_log) == ends, "the TID log")
    site.check_all_points()
    assert "this ZEO is not as we know it" not in site.daemon.log.read_text()


def test_years_of_unstamped_history_need_no_stamps(site, tmp_path):
    unstamped(site, 5)
    site.daemon.start()
    site.bootstrapped()
    site.write(5)
    site.wait_for_all()
    assert wait_until(lambda: site.points()[-1].source == "stamps", "a point by stamps")
    assert site.points()[-1].verified


def unstamped(site: Site, count: int) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import stamping_writer as w, json, transaction\n"
        "w.add_stamp = lambda *a: None\n"
        "c = w.open_connections(json.loads(sys.argv[2]))\n"
        f"for n in range({count}): w.commit_group(c, sorted(c))\n"
    )
    storages = {
        each: server.address
        for server in (site.one, site.two)
        for each in server.storages
    }
    subprocess.run(
        [sys.executable, "-c", code, str(TESTS), json.dumps(storages)], check=True
    )


def test_points_past_an_unstamped_writer_are_unverified(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(3)
    site.wait_for_all()
    unstamped(site, 3)
    ends = site.wait_for_all()
    (point,) = wait_until(
        lambda: [p for p in site.points() if p.vector == ends], "the journal has it"
    )[-1:]
    assert not point.verified


def test_a_barrier_makes_points_verified_again(site, monkeypatch):
    """In this process, where the next barrier does not take five minutes."""
    points = []
    settings = configuration.load(site.configuration)
    watched = Observation(
        settings, LastRun(), points.append, lambda entry: None, Writers(())
    )

    async def until(condition, what):
        async with asyncio.timeout(PATIENCE):
            while not condition():
                assert not running.done(), f"ended before {what}"
                await asyncio.sleep(0.02)

    async def work():
        await until(lambda: points, "the bootstrap")
        await asyncio.to_thread(unstamped, site, 3)
        ends = site.ends()
        await until(lambda: points[-1].vector == ends, "the point covers all")
        assert not points[-1].verified
        monkeypatch.setattr(observation, "_VERIFY_PERIOD", 0.0)
        await until(lambda: points[-1].verified, "it is verified")
        assert points[-1].vector == ends

    async def run():
        nonlocal running
        running = asyncio.create_task(watched.run())
        try:
            await work()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    running = None
    asyncio.run(run())


def test_load_from_several_processes_with_servers_killed(site):
    site.daemon.start()
    site.bootstrapped()
    for round_number, server in enumerate((site.one, site.two, site.one)):
        moved = site.dump()
        # Most writers do not survive their servers; some would wait for them.
        for seed in range(2):
            site.writer(seed=10 * round_number + seed, pause=0.01, quiet=True)
        wait_until(lambda: site.dump() != moved, "the point moves on")  # noqa: B023
        server.kill()
        # Only so that the rounds differ: nothing is expected of this moment.
        time.sleep(0.1 * round_number)
        for process in site.writers:
            process.kill()
            process.wait(PATIENCE)
        server.start()
    wait_until(lambda: site.daemon.peer(), "it still answers")
    # What was cut off half way is either dead or was never seen.
    wait_until(lambda: coherent_and_complete(site), "the end is reached")
    site.check_all_points()


def coherent_and_complete(site: Site) -> bool:
    vector = dict(site.dump())
    best = site.cut()
    return site.is_coherent(vector) and all(
        vector[each] >= last for each, last in best.items()
    )


def test_a_server_that_is_down_holds_up_no_other(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(3)
    before = site.wait_for_all()
    site.two.kill()
    process = subprocess.Popen(
        [
            sys.executable,
            str(TESTS / "stamping_writer.py"),
            json.dumps(
                {
                    "seed": 1,
                    "count": 5,
                    "storages": dict.fromkeys(site.one.storages, site.one.address),
                }
            ),
        ],
        stdout=subprocess.DEVNULL,
    )
    assert process.wait(PATIENCE) == 0
    ends = {each: last_tid(site.files[each]) for each in site.one.storages}
    wait_until(
        lambda: {each: site.dump()[each] for each in ends} == ends, "the others move"
    )
    assert {each: site.dump()[each] for each in "cd"} == {
        each: before[each] for each in "cd"
    }
    site.two.start()
    site.write(3)
    site.wait_for_all()


def test_a_gap_after_a_reconnect_is_filled(site):
    site.daemon.start()
    site.bootstrapped()
    site.daemon.signal(signal.SIGSTOP)
    site.one.kill()
    site.one.start()
    site.write(40)
    site.daemon.signal(signal.SIGCONT)
    site.wait_for_all()


def test_a_stopped_server_and_one_that_packs(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(10)
    site.two.signal(signal.SIGSTOP)
    assert site.dump()
    site.two.signal(signal.SIGCONT)
    site.wait_for_all()
    packing = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sys, time, ZEO\n"
            "c = ZEO.client(('127.0.0.1', int(sys.argv[1])), storage='a')\n"
            "c.pack(time.time(), wait=True)\n",
            str(site.one.address[1]),
        ]
    )
    site.write(10)
    assert packing.wait(PATIENCE) == 0
    site.write(10)
    site.wait_for_all()


def test_the_point_moves_on_while_a_server_packs(site):
    site.daemon.start()
    site.bootstrapped()
    site.wait_for_all()
    site.daemon.signal(signal.SIGSTOP)
    site.write(10)
    with contextlib.ExitStack() as stack:
        client = ZEO.client(site.one.address, storage="a", wait_timeout=PATIENCE)
        stack.callback(client.close)
        # A pack comes to its end under the lock that this holds.
        meta = TransactionMetaData()
        client.tpc_begin(meta)
        client.tpc_vote(meta)
        packing = ZEO.client(site.one.address, storage="a", wait_timeout=PATIENCE)
        stack.callback(packing.close)
        pack = threading.Thread(target=packing.pack, args=(time.time(), True))
        pack.start()
        stack.callback(pack.join, PATIENCE)
        stack.callback(client.tpc_abort, meta)
        wait_until(lambda: packs(client), "the server packs")
        site.daemon.signal(signal.SIGCONT)
        site.wait_for_all()
        assert packs(client)


def packs(client) -> bool:
    try:
        client.undoLog(0, -1)
    except ServerException as error:
        assert server_errors.is_undo_error(error), error
        return True
    return False


def test_a_restart_goes_on_from_the_journal(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(5)
    ends = site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == ends, "the journal")
    site.daemon.kill()
    with site.daemon.journal.open("a") as stream:
        stream.write('{"kind": "point", "vers')
    site.write(20)
    site.daemon.start()
    site.wait_for_all()
    assert [point.source for point in site.points()].count("barrier") == 1
    assert {point.timeline for point in site.points()} == {1}
    site.check_all_points()


def test_a_killed_daemon_goes_on_from_what_it_published(site):
    site.describe(also="resume-timeout 0.1\n")
    for burst_period in range(2, 12):
        arguments = site.daemon.arguments
        site.daemon.arguments = [*arguments, "-b", str(burst_period)]
        site.daemon.start()
        site.daemon.arguments = arguments
        site.bootstrapped()
        # The journal has the first point of a kind, and those like it now and then.
        for _ in range(2):
            site.write(20)
            ends = site.wait_for_all()
            wait_until(
                lambda: tid_log.read_last(site.daemon.tid_log) == ends,  # noqa: B023
                "on disk",
            )
        site.daemon.kill()
        if site.points()[-1].vector != ends:
            break
    else:
        pytest.fail("the journal alone would do")
    site.one.kill()
    site.two.kill()
    site.daemon.start()
    wait_until(lambda: site.dump() == ends, "what nobody contradicts is said again")
    assert "no server tells whether" in site.daemon.log.read_text()
    site.one.start()
    site.two.start()
    site.write(5)
    site.wait_for_all()
    site.check_all_points()
    assert not any(isinstance(each, Timeline) for each in entries_of(site))


def entries_of(site: Site) -> list[Entry]:
    return journal_entries(site.daemon.journal)


@pytest.mark.parametrize("local", [False, True])
def test_a_restart_after_much_was_written(site, local):
    site.describe(local=local)
    site.daemon.start()
    site.bootstrapped()
    assert site.daemon.stop() == 0
    site.write(700, group=["a", "b"])
    site.daemon.start()
    site.wait_for_all()
    site.check_all_points()


@pytest.mark.parametrize("daemon", ["observes", "is away"])
def test_a_pack_that_takes_away_the_last_record_seen(site, daemon):
    """Somebody packs to the present; of a record without objects nothing is left."""
    site.daemon.start()
    site.bootstrapped()
    site.write(3)
    client = ZEO.client(site.one.address, storage="a")
    empty = TransactionMetaData()
    client.tpc_begin(empty)
    client.tpc_vote(empty)
    gone = tid.from_bytes(client.tpc_finish(empty))
    ends = site.wait_for_all()
    assert ends["a"] == gone
    wait_until(lambda: site.points()[-1].vector == ends, "the journal")
    if daemon == "is away":
        site.daemon.kill()
    client.pack(time.time() + 1, wait=True)
    client.close()
    assert last_tid(site.files["a"]) < gone
    site.write(3, group=["a", "b"])
    if daemon == "is away":
        site.daemon.start()
    site.wait_for_all()
    assert not any(isinstance(each, Timeline) for each in entries_of(site))


def put_back(site, old, *servers):
    """Servers and files as they were: {storage: what its file held}."""
    servers = servers or (site.one, site.two)
    for server in servers:
        server.stop()
        for each in server.storages:
            path = server.data_file(each)
            path.write_bytes(old[each])
            path.with_name(path.name + ".index").unlink(missing_ok=True)
    for server in servers:
        server.start()


def test_a_point_that_a_restore_has_ended_is_not_said_again(site):
    site.describe(also="resume-timeout 600\n")
    site.daemon.start()
    site.bootstrapped()
    site.write(5)
    old = {each: path.read_bytes() for each, path in site.files.items()}
    site.write(5, group=["c", "d"])
    lost = site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == lost, "the journal")
    wait_until(lambda: tid_log.read_last(site.daemon.tid_log) == lost, "the TID log")
    site.daemon.kill()
    said = len(entries_of(site))
    logged = site.daemon.tid_log.read_bytes()
    put_back(site, old, site.two)
    site.two.signal(signal.SIGSTOP)
    site.daemon.start()
    wait_until(
        lambda: site.observed().get("not confirmed") == ["c", "d"],
        "the storages that can be asked hold it",
    )
    assert site.dump() == {} and site.daemon.peer().bootstraped() == b"0\n"
    site.two.signal(signal.SIGCONT)
    back = site.wait_for_all()
    assert all(back[each] < lost[each] for each in "cd")
    wait_until(lambda: site.points()[-1].vector == back, "the journal")
    # Neither file has a word more of the timeline that ended.
    assert isinstance(entries_of(site)[said], Timeline)
    aside = site.daemon.tid_log.with_name("tidlog.before-2")
    wait_until(aside.exists, "the TID log of the old timeline is set aside")
    assert aside.read_bytes() == logged


def test_a_restart_after_a_restore_where_much_was_written_since(site):
    """The record of the last point is looked for far back, beyond one answer."""
    site.daemon.start()
    site.bootstrapped()
    old = {each: path.read_bytes() for each, path in site.files.items()}
    site.write(1, group=["a"])
    lost = site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == lost, "the journal")
    site.daemon.kill()
    put_back(site, old)
    site.write(1300, group=["a"])
    site.daemon.start()
    new = site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == new, "the journal")
    assert site.points()[-1].timeline == 2


def test_new_commits_that_pass_a_lost_timeline_do_not_go_into_its_log(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(5)
    old = {each: path.read_bytes() for each, path in site.files.items()}
    site.write(5)
    lost = site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == lost, "the journal")
    wait_until(lambda: tid_log.read_last(site.daemon.tid_log) == lost, "the log")
    site.daemon.kill()
    put_back(site, old)
    committer = Committer(site)
    committer.commit(*site.files)
    committer.close()
    assert all(last > lost[each] for each, last in site.ends().items())
    site.daemon.start()
    new = site.wait_for_all()
    wait_until(lambda: tid_log.read_last(site.daemon.tid_log) == new, "the new log")
    assert lost not in [each.vector for each in tid_log.read_all(site.daemon.tid_log)]
    aside = site.daemon.tid_log.with_name("tidlog.before-2")
    assert tid_log.read_last(aside) == lost


def test_what_a_restore_has_ended_is_not_said_any_longer(site):
    """Also where the first point of the new timeline takes a while."""
    site.daemon.start()
    site.bootstrapped()
    site.write(5)
    old = {each: path.read_bytes() for each, path in site.files.items()}
    site.write(5, group=["c", "d"])
    site.wait_for_all()
    site.one.signal(signal.SIGSTOP)
    put_back(site, old, site.two)
    # No barrier can be held.
    wait_until(lambda: not site.dump(), "it is withdrawn")
    assert site.daemon.peer().bootstraped() == b"0\n"
    site.one.signal(signal.SIGCONT)
    ends = site.wait_for_all()
    assert site.daemon.peer().bootstraped() == b"1\n"
    wait_until(lambda: site.points()[-1].vector == ends, "the journal")
    assert site.points()[-1].timeline == 2


def test_a_restored_storage_starts_a_new_timeline(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(5)
    old = {each: path.read_bytes() for each, path in site.files.items()}
    site.write(5)
    ends = site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == ends, "the journal")
    put_back(site, old)
    back = site.ends()
    wait_until(lambda: site.dump() == back, "the point goes back with the files")
    wait_until(lambda: site.points()[-1].timeline == 2, "the journal follows")
    assert site.points()[-1].source == "barrier"
    (entry,) = [
        each
        for each in journal_entries(site.daemon.journal)
        if isinstance(each, Timeline)
    ]
    assert entry.number == 2
    aside = site.daemon.tid_log.with_name("tidlog.before-2")
    wait_until(aside.exists, "the TID log of the old timeline is set aside")
    assert tid_log.read_last(aside) == ends
    wait_until(lambda: tid_log.read_last(site.daemon.tid_log) == back, "a new TID log")
    # What somebody accepts of what is gone is nothing to go on from.
    floor = Floor(Point(ends, now(), "barrier"), "too late")
    journal.append(site.daemon.journal, floor)
    wait_until(
        lambda: "is of a timeline that has ended" in site.daemon.log.read_text(),
        "it is read, and left",
    )
    site.write(3)
    site.wait_for_all()
    assert site.points()[-1].timeline == 2


def test_a_half_commit_is_proven_kept_and_named(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(2)
    clean = site.wait_for_all()
    site.write(0, half=["a", "d"])
    ends = site.wait_for_all()
    assert ends["a"] > clean["a"] and ends["d"] == clean["d"]
    (point,) = wait_until(
        lambda: [p for p in site.points() if p.vector == ends], "the journal"
    )[-1:]
    (half,) = point.damage
    assert half.missing == ("d",) and set(half.present) == {"a"}
    assert [p for p in site.points() if not p.damage][-1].vector == clean
    (entry,) = [
        each
        for each in journal_entries(site.daemon.journal)
        if isinstance(each, Damage)
    ]
    assert entry.half_commit == half
    # It stays named, also over a restart, until somebody accepts it.
    site.write(3)
    site.wait_for_all()
    assert site.points()[-1].damage == (half,)
    site.daemon.kill()
    site.daemon.start()
    site.write(3)
    ends = site.wait_for_all()
    assert wait_until(lambda: site.points()[-1].vector == ends, "the journal")
    assert site.points()[-1].damage == (half,)
    journal.Journal(site.daemon.journal).append(
        Acknowledgement(point.time, half.commit_id, "test")
    )
    wait_until(lambda: not site.points()[-1].damage, "it is accepted")
    site.write(3)
    site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == site.ends(), "the journal")
    assert not site.points()[-1].damage


def test_a_half_commit_of_before_the_first_start_is_named(site):
    site.describe(local=True)
    site.write(2)
    write_beside(Point(site.ends(), now(), "barrier"), site.files.values())
    site.write(0, half=["a", "d"])
    site.write(3)
    site.daemon.start()
    site.wait_for_all()
    (half,) = wait_until(lambda: site.points()[-1].damage, "the damage is named")
    assert half.missing == ("d",) and set(half.present) == {"a"}
    site.check_all_points()
    # Once somebody has accepted it, it is none wherever a daemon begins.
    site.daemon.kill()
    site.daemon.tid_log.unlink()
    site.daemon.journal.unlink()
    journal.append(site.daemon.journal, Acknowledgement(now(), half.commit_id, "test"))
    site.daemon.start()
    ends = site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == ends, "the journal")
    assert not any(isinstance(each, Damage) for each in entries_of(site))
    assert not any(each.damage for each in site.points())


def test_a_writer_from_a_lost_timeline_is_an_alarm(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(2)
    before = site.wait_for_all()
    future = tid.from_bytes(b"\x7f" + b"\0" * 7)
    odd = {"storage": "a", "participants": ["a"], "known": {"d": future}}
    commit_id = "0123456789abcdef" * 2
    peer = site.daemon.peer()
    peer.send(protocol.encode_hello(Hello("web-7", "elsewhere", 4711)))
    peer.begin(commit_id, "a")
    site.write(0, odd={**odd, "commit_id": commit_id})
    wait_until(lambda: "lost timeline" in site.daemon.log.read_text(), "the alarm")
    site.write(3)
    assert site.dump()["a"] == before["a"]
    log = site.daemon.log.read_text()
    assert log.count("CRITICAL") == 1 and "storage d" in log
    assert "web-7 (process 4711 on elsewhere) writes what it knows" in log
    (alarm,) = site.observed()["lost timeline"]
    assert alarm["process"]["name"] == "web-7" and alarm["commit"] == commit_id
    # Somebody accepts what there is; stamps made meanwhile know nothing wrong.
    floor = Point(site.ends(), site.points()[0].time, "barrier")
    journal.Journal(site.daemon.journal).append(Floor(floor, "rebase"))
    site.wait_for_all()
    assert site.observed()["lost timeline"] == []
    site.write(2)
    site.wait_for_all()
    site.daemon.kill()
    site.write(2)
    site.daemon.start()
    site.wait_for_all()
    # Of one that told nothing at least its commit is named.
    site.write(0, odd=odd)
    wait_until(lambda: site.observed().get("lost timeline"), "another alarm")
    site.check_times_of_points()
    assert "a process that has not told its name writes" in site.daemon.log.read_text()


def test_it_ends_at_once_whatever_the_servers_do(site):
    for bootstrapped in (False, True):
        if bootstrapped:
            site.daemon.start()
            site.bootstrapped()
        site.two.signal(signal.SIGSTOP)
        if not bootstrapped:
            site.daemon.start()
        started = time.monotonic()
        assert site.daemon.stop() == 0
        # Its clients of the servers would wait for ever, or for half a minute.
        assert time.monotonic() - started < 25
        site.two.signal(signal.SIGCONT)


def test_only_its_wire_only_ids_are_believed(site):
    site.daemon.start()
    site.bootstrapped()
    site.write(2)
    ends = site.wait_for_all()
    peer = site.daemon.peer()
    peer.write("lie", a=1 << 62, other=7)
    peer.write("lie", a=1 << 62, other=8)
    assert peer.dump() == {**ends, "other": 8}
    peer.begin("never ends", "a", "b", "c", "d")
    site.write(2)
    assert wait_until(
        lambda: {**site.ends(), "other": 8} == peer.dump(), "messages do not matter"
    )


def test_servers_that_come_after_the_daemon(tmp_path):
    with zeo_server(tmp_path / "zeo", ["a"]) as server:
        address = server.address
        server.stop()
        configuration = tmp_path / "tidstorage.conf"
        configuration.write_text(
            f"<storage a>\nserver {address[0]}:{address[1]}\n</storage>\n"
        )
        with running_daemon(tmp_path, "-c", configuration) as daemon:
            assert daemon.peer().dump() == {}
            assert daemon.peer().bootstraped() == b"0\n"
            wait_until(
                lambda: "no bootstrap yet" in daemon.log.read_text(), "it says so"
            )
            server.start()
            wait_until(lambda: "a" in daemon.peer().dump(), "the bootstrap")
            assert daemon.peer().bootstraped() == b"1\n"


@pytest.mark.parametrize("when", ["observed", "before the bootstrap"])
def test_a_server_that_takes_an_unfinished_vote_for_its_last_transaction(site, when):
    if when == "observed":
        site.daemon.start()
        site.bootstrapped()
    site.write(2)
    committer = Committer(site)
    committer.vote("a", "c")
    site.one.kill()
    committer.close()
    site.one.start()
    committer = Committer(site)
    phantom = committer.vector()["a"] - 1
    assert phantom > last_tid(site.files["a"])
    if when != "observed":
        site.daemon.start()
        site.bootstrapped()
    # Whoever commits now has seen what is in no file.
    tids = committer.commit("b", "d")
    wait_until(
        lambda: all(site.dump()[each] >= last for each, last in tids.items()),
        "nobody waits for it",
    )
    tids = committer.commit("a", "c")
    assert tids["a"] > phantom
    site.wait_for_all()
    committer.close()
    assert {point.timeline for point in site.points()} == {1}
    assert "CRITICAL" not in site.daemon.log.read_text()
