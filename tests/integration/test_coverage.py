"""Who stamps, and who wrote without: named by the daemon and by ``status``."""

import json
import signal
import subprocess
import sys

import pytest
from daemons import running_daemon
from observed_site import Committer, Site
from real_processes import wait_until

from tidstorage.daemon import writers
from tidstorage.daemon.settings import ObservedStorage
from tidstorage.daemon.writers import Writers
from tidstorage.points import entries
from tidstorage.points.entries import Stamping, Unstamped
from tidstorage.system.clock import now
from tidstorage.wire import client, protocol
from tidstorage.wire.protocol import Hello

pytestmark = pytest.mark.integration

#: Commits with the real hook, under a name of its own; a plain ZEO client's user.
STAMPING = """\
import sys, ZEO, ZODB, tidstorage
host, port, daemon = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tidstorage.install(("127.0.0.1", daemon), {"unnamed": "a"}, name=sys.argv[4])
db = ZODB.DB(ZEO.client((host, port), storage="a"))
with db.transaction() as connection:
    connection.root()["stamped"] = True
db.close()
tidstorage.uninstall()
"""
UNSTAMPED = """\
import sys, ZEO, ZODB
db = ZODB.DB(ZEO.client((sys.argv[1], int(sys.argv[2])), storage="a"))
for description in ("first", "nightly import"):
    with db.transaction(description) as connection:
        connection.transaction_manager.get().setUser("importer", "/acl_users")
        connection.root()["unstamped"] = description
db.close()
"""


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    made.describe(also="zope web-1\nzope web-2\n")
    try:
        made.write(1)
        made.daemon.start()
        made.bootstrapped()
        yield made
    finally:
        made.close()


def run(site, code, *arguments):
    command = [sys.executable, "-c", code, *map(str, site.one.address)]
    subprocess.run([*command, *map(str, arguments)], check=True)


def covered(site):
    return client.state("127.0.0.1", site.daemon.port)["coverage"]


def unstamped(site):
    return covered(site)["unstamped"]


def counted(site):
    return unstamped(site).get("a", {"count": 0})["count"]


def test_zopes_that_never_stamp_are_named(site):
    assert covered(site)["never_seen_stamping"] == ["web-1", "web-2"]
    run(site, STAMPING, site.daemon.port, "web-1")
    wait_until(lambda: covered(site)["stamping"], "it is heard")
    found = covered(site)
    assert found["never_seen_stamping"] == ["web-2"]
    (process,) = found["stamping"]
    assert process["name"] == "web-1" and process["pid"] and process["last"]
    assert found["unstamped"] == {}


def test_writers_without_stamps_are_counted_and_named(site):
    run(site, UNSTAMPED)
    found = wait_until(
        lambda: "nightly import" in str(unstamped(site)) and unstamped(site),
        "the last writer is named",
    )
    assert set(found) == {"a"} and found["a"]["count"] == 2
    assert found["a"]["tid"] == f"0x{site.ends()['a']:016x}"
    assert found["a"]["user"] == "/acl_users importer"
    assert found["a"]["time"]


def test_a_server_that_is_down_leaves_the_count(site):
    run(site, UNSTAMPED)
    wait_until(lambda: counted(site) == 2, "both are counted")
    site.one.kill()
    assert counted(site) == 2


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_restart_forgets_neither_who_stamps_nor_what_was_unstamped(site, how):
    since = covered(site)["since"]
    run(site, STAMPING, site.daemon.port, "web-1")
    run(site, UNSTAMPED)
    wait_until(lambda: "nightly import" in str(unstamped(site)), "the writer is named")
    before = covered(site)
    ends = site.wait_for_all()
    wait_until(lambda: site.points()[-1].vector == ends, "the point is on disk")
    if how == "killed":
        # Who is new is written down at once, more of the same at times.
        wait_until(
            lambda: (
                journaled(site)[-1]["stamping"] and journaled(site)[-1]["unstamped"]
            ),
            "both are in the journal",
        )
        site.daemon.kill()
    else:
        assert site.daemon.stop() == 0
    site.daemon.start()
    after = covered(site)
    assert after["since"] == since
    assert after["never_seen_stamping"] == before["never_seen_stamping"] == ["web-2"]
    assert [each["pid"] for each in after["stamping"]] == [
        each["pid"] for each in before["stamping"]
    ]
    if how == "stopped":
        assert after == before
    counted_before = counted(site)
    run(site, UNSTAMPED)
    wait_until(lambda: counted(site) == counted_before + 2, "it goes on counting")


def test_a_journal_that_is_moved_away_is_told_anew(site):
    run(site, STAMPING, site.daemon.port, "web-1")
    wait_until(lambda: covered(site)["stamping"], "it is heard")
    wait_until(
        lambda: (told := journaled(site)) and told[-1]["stamping"], "the journal"
    )
    site.daemon.journal.rename(site.daemon.journal.with_name("moved"))
    site.daemon.signal(signal.SIGHUP)
    wait_until(site.daemon.journal.exists, "a new one")
    found = wait_until(lambda: journaled(site), "what was known")[0]
    assert [each["name"] for each in found["stamping"]] == ["web-1"]


def test_what_a_restart_reads_again_counts_once(site):
    """Records above the last point are fetched by every daemon that starts."""
    committer = Committer(site)
    voted = committer.vote("a", "c")
    voted.finish("a")
    run(site, UNSTAMPED)
    wait_until(lambda: counted(site) == 2, "both are counted, and wait")
    assert site.daemon.stop() == 0
    site.daemon.start()
    site.bootstrapped()
    wait_until(lambda: site.observed()["waiting"] == 3, "all are fetched again")
    assert counted(site) == 2
    voted.finish("c")
    site.wait_for_all()
    assert counted(site) == 2
    committer.close()


def journaled(site):
    lines = map(json.loads, site.daemon.journal.read_text().splitlines())
    return [each for each in lines if each["kind"] == "coverage"]


def test_saying_hello_is_no_sign_of_stamps(tmp_path):
    with running_daemon(tmp_path) as daemon:
        peer = daemon.peer()
        peer.send(protocol.encode_hello(Hello("web-1", "here", 1)))
        assert peer.bootstraped()
        state = client.state("127.0.0.1", daemon.port)
        assert state["coverage"]["stamping"] == []
        peer.write("one", a=1)
        peer.dump()
        state = client.state("127.0.0.1", daemon.port)
        assert [each["name"] for each in state["coverage"]["stamping"]] == ["web-1"]


def test_an_old_daemon_has_no_state(tmp_path):
    """Where STATUS is dropped, the question after it is answered."""
    assert client._decode_state(b"0\n") == {}
    assert client._decode_state(b'{"a": 1}\n0\n') == {"a": 1}
    assert client._decode_state(b'{"a": 1}') is None


def test_nameless_processes_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(writers, "_NAMELESS_KEPT", 3)
    seen = Writers(["web-1"])
    for pid in (1, 2, 3, 1, 4):
        seen.hear(Hello("", "here", pid))
        seen.hear(Hello("web-1", "here", 9))
    processes = json.loads(json.dumps(seen.state))["stamping"]
    assert [each["pid"] for each in processes if not each["name"]] == [3, 1, 4]
    assert seen.state["never_seen_stamping"] == []


def test_the_journal_grows_within_bounds():
    """An entry for who is new, and else one in each period while something changes."""
    seen = Writers(["web-1", "web-2"], [ObservedStorage("a", ("localhost", 1), "a")])
    assert seen.take_entry(0) is not None, "since when it is known"
    assert seen.take_entry(10_000) is None
    seen.hear(Hello("stranger", "here", 1))
    assert seen.take_entry(20_000) is None
    for number, name in enumerate(("web-1", "web-2")):
        seen.hear(Hello(name, "here", 1))
        entry = seen.take_entry(30_000)
        assert len(entry.stamping) == number + 1 and not entry.unstamped
        seen.hear(Hello(name, "here", 2))
        assert seen.take_entry(90_000) is None
    seen.unstamped.add("a", [5])
    assert seen.take_entry(100_000).unstamped["a"].count == 1
    seen.unstamped.add("a", [5, 6, 7])
    assert seen.take_entry(100_000 + writers.NOTE_PERIOD - 1) is None
    entry = seen.take_entry(100_000 + writers.NOTE_PERIOD)
    assert entry.unstamped["a"].count == 3 and entry.unstamped["a"].tid == 7
    assert seen.take_entry(1_000_000) is None
    seen.hear(Hello("web-1", "here", 2))
    assert seen.take_entry(1_000_000, ending=True).stamping[-1].name == "web-1"
    assert seen.take_entry(1_000_000, ending=True) is None
    seen.begin_journal()
    assert seen.take_entry(1_000_000) is not None


def test_what_the_description_lacks_is_forgotten():
    former = entries.WritersSeen(
        *(now(), now(), (Stamping("gone", "here", 1, now()),)),
        {"gone": Unstamped(3, 5), "a": Unstamped(2, 7)},
    )
    storages = [ObservedStorage("a", ("localhost", 1), "a")]
    seen = Writers(["web-1"], storages, former)
    assert seen.state["since"] == former.since.isoformat()
    assert set(seen.state["unstamped"]) == {"a"}
    entry = seen.take_entry(0, ending=True)
    assert entry.stamping == () and set(entry.unstamped) == {"a"}


def test_who_told_of_a_commit_is_remembered_for_a_while(monkeypatch):
    monkeypatch.setattr(writers, "_COMMITS_KEPT", 10)
    seen = Writers(["web-1"])
    process = Hello("web-1", "here", 1)
    for number in range(100):
        seen.hear(process, [number.to_bytes(16).hex()])
        for ago in range(min(number, 10)):
            assert seen.find_process((number - ago).to_bytes(16)) == process
    assert seen.find_process((0).to_bytes(16)) is None
    assert len(seen._process_of) + len(seen._process_of_older) <= 22
