"""A daemon that starts again, after its own end, a pack or a restore."""

import signal
import time

import pytest
import ZEO
from daemons import journal_entries, running_daemon
from observed_site import Committer, entries_of
from real_processes import wait_until, zeo_server
from ZODB.Connection import TransactionMetaData

from tidstorage.coherence import tid
from tidstorage.coherence.point import Point
from tidstorage.engines.filestorage import last_tid
from tidstorage.points import journal, tid_log
from tidstorage.points.entries import Floor, Timeline
from tidstorage.system.clock import now

pytestmark = pytest.mark.integration


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
    floor = Floor("too late", Point(ends, now(), "barrier"))
    journal.append(site.daemon.journal, floor)
    wait_until(
        lambda: "is of a timeline that has ended" in site.daemon.log.read_text(),
        "it is read, and left",
    )
    site.write(3)
    site.wait_for_all()
    assert site.points()[-1].timeline == 2


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
