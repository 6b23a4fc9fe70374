"""The daemon observes real storages, whatever their servers go through."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time

import pytest
import ZEO
from observed_site import TESTS, Site, unstamped
from real_processes import PATIENCE, wait_until
from ZEO.Exceptions import ServerException
from ZODB.Connection import TransactionMetaData

from tidstorage.daemon import publishing
from tidstorage.daemon import settings as configuration
from tidstorage.daemon.publishing import PointPublisher
from tidstorage.daemon.resuming import LastRun
from tidstorage.daemon.writers import Writers
from tidstorage.engines.filestorage import last_tid
from tidstorage.points import tid_log
from tidstorage.zeo import server_errors

pytestmark = pytest.mark.integration


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
    watched = PointPublisher(
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
        monkeypatch.setattr(publishing, "_VERIFY_PERIOD", 0.0)
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
