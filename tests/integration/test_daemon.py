"""The daemon as a process: signals, crashes, files, and peers of every kind."""

import json
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from daemons import bootstrapped, journal_entries, running_daemon
from real_processes import PATIENCE, wait_until

from tidstorage.points import tid_log
from tidstorage.points.entries import Published, WireDamage
from tidstorage.wire import protocol

pytestmark = pytest.mark.integration


def test_the_life_of_a_new_daemon_over_the_wire(daemon):
    peer = daemon.peer()
    assert peer.dump() == {}
    assert peer.bootstraped() == b"0\n"
    peer.write("t1", a=1)
    assert peer.dump() == {}
    assert peer.bootstraped() == b"1\n"
    peer.write("t2", b=2)
    assert peer.dump() == {"a": 1, "b": 2}
    other = daemon.peer()
    peer.begin("t3", "a", "b")
    other.write("t4", a=9)
    assert other.dump() == {"a": 1, "b": 2}
    peer.close()
    # A transaction is not bound to its connection.
    other.commit("t3", a=8, b=3)
    assert other.dump() == {"a": 9, "b": 3}
    other.send(b"quit\n")
    assert other.is_closed()


def test_an_answer_is_one_piece_and_nobody_waits_for_it(daemon):
    peer = bootstrapped(daemon)
    peer.write("t", **{f"storage-{n}": n for n in range(100)})
    expected = protocol.encode_dict({f"storage-{n}": n for n in range(100)})
    peer.send(protocol.encode_dump())
    assert peer.socket.recv(1 << 16) == expected
    # The original took 44 ms for each: none was faster, however idle the machine.
    wait_until(lambda: seconds_of_a_dump(peer) < 0.02, "an answer at once")


def seconds_of_a_dump(peer):
    started = time.monotonic()
    peer.dump()
    return time.monotonic() - started


def test_the_log_is_read_again_after_a_kill_with_a_torn_last_line(tmp_path):
    with running_daemon(tmp_path) as daemon:
        peer = bootstrapped(daemon)
        peer.write("t1", a=1, b=1)
        wait_until(lambda: daemon.tid_log.read_text(), "the first line")
        peer.write("t2", a=2, b=2)
        wait_until(lambda: " d " in daemon.tid_log.read_text(), "the second line")
        daemon.kill()
        with daemon.tid_log.open("a") as log:
            log.write("1795548553.62 d {'a': 20")
        with daemon.journal.open("a") as entries:
            entries.write('{"kind": "poi')
        daemon.start()
        peer = daemon.peer()
        assert peer.dump() == {"a": 2, "b": 2}
        peer.write("t3", a=1, b=3)
        peer.write("t4", a=4, b=4)
        assert peer.dump() == {"a": 4, "b": 4}
        assert daemon.stop() == 0
        lines = daemon.tid_log.read_text().splitlines()
        kinds = [line.split()[1] for line in lines]
        assert kinds[:3] == ["f", "d", "f"] and set(kinds[3:]) <= {"d"}
        assert tid_log.read_last(daemon.tid_log) == {"a": 4, "b": 4}
        points = [
            entry.point
            for entry in journal_entries(daemon.journal)
            if isinstance(entry, Published)
        ]
        assert points[-1].vector == {"a": 4, "b": 4}
        assert not points[-1].verified and points[-1].source == "wire"


def test_hup_reopens_logs_and_the_tid_log_starts_with_a_full_line(daemon, tmp_path):
    peer = bootstrapped(daemon)
    peer.write("t1", a=1, b=1)
    wait_until(daemon.tid_log.exists, "the TID log")
    wait_until(lambda: daemon.tid_log.read_text(), "the first line")
    for path in (daemon.tid_log, daemon.log, daemon.journal):
        path.rename(path.with_suffix(".1"))
    daemon.signal(signal.SIGHUP)
    wait_until(daemon.tid_log.exists, "a new TID log")
    wait_until(
        lambda: daemon.tid_log.read_text().endswith(" f {'a': 1, 'b': 1}\n"),
        "its full line",
    )
    wait_until(daemon.log.exists, "a new server log")
    wait_until(daemon.journal.exists, "a new journal")
    peer.write("t2", a=2)
    wait_until(lambda: " d {'a': 2}" in daemon.tid_log.read_text(), "a difference")


def test_every_line_is_full_where_the_period_says_so(tmp_path):
    with running_daemon(tmp_path, "-F", "0") as daemon:
        peer = bootstrapped(daemon)
        for number in (1, 2, 3):
            peer.write("t", a=number, b=1)
            full = f" f {{'a': {number}, 'b': 1}}\n"
            wait_until(lambda: full in daemon.tid_log.read_text(), "its line")  # noqa: B023


def test_within_the_burst_period_only_the_newest_is_written(tmp_path):
    with running_daemon(tmp_path, "-b", "3600") as daemon:
        peer = bootstrapped(daemon)
        peer.write("t", a=1, b=1)
        wait_until(daemon.tid_log.read_text, "the first line")
        for number in (2, 3, 4):
            peer.write("t", a=number)
            assert peer.dump() == {"a": number, "b": 1}
        assert daemon.stop() == 0
        lines = daemon.tid_log.read_text().splitlines()
        assert [line.split(" ", 1)[1] for line in lines] == [
            "f {'a': 1, 'b': 1}",
            "d {'a': 4}",
        ]


def test_usr1_writes_the_state_into_the_server_log(daemon):
    peer = bootstrapped(daemon)
    peer.begin("open transaction", "a")
    peer.dump()
    daemon.signal(signal.SIGUSR1)

    def state() -> dict:
        for line in daemon.log.read_text().splitlines(keepends=True):
            if "state: " in line and line.endswith("\n"):
                return json.loads(line.split("state: ", 1)[1])
        return {}

    found = wait_until(state, "the state")
    assert found["wire"]["pending"] == {"open transaction": ["a"]}
    assert found["connections"] >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_end(daemon, number):
    peer = bootstrapped(daemon)
    peer.write("t", a=5)
    assert peer.dump() == {"a": 5}
    wait_until(daemon.pid_file.exists, "the pid file")
    assert int(daemon.pid_file.read_text()) == daemon.process.pid
    daemon.signal(number)
    assert daemon.process.wait(PATIENCE) == 0
    daemon.process = None
    assert peer.is_closed()
    assert not daemon.pid_file.exists()
    assert tid_log.read_last(daemon.tid_log) == {"a": 5}


def test_hup_while_the_folder_of_the_logs_is_away(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    with running_daemon(folder) as daemon:
        peer = bootstrapped(daemon)
        peer.write("t1", a=1)
        moved = folder.rename(tmp_path / "moved")
        daemon.signal(signal.SIGHUP)
        peer.write("t2", a=2)
        wait_until(
            lambda: tid_log.read_last(moved / "tidlog") == {"a": 2}, "it goes on there"
        )
        moved.rename(folder)
        daemon.signal(signal.SIGHUP)
        peer.write("t3", a=3)
        wait_until(lambda: tid_log.read_last(daemon.tid_log) == {"a": 3}, "and here")
        assert daemon.stop() == 0


def test_rubbish_closes_that_connection_and_no_other(daemon):
    good = bootstrapped(daemon)
    for rubbish in (
        b"BEGIN\nt\nmany\n",
        b"COMMIT\nt\n1\na\n-5\n",
        b"\x16\x03\x01" * 700_000,
    ):
        bad = daemon.peer()
        try:
            bad.send(rubbish)
        except (ConnectionResetError, BrokenPipeError):
            continue
        assert bad.is_closed()
    for harmless in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\n" * 1000, b"\0" * 1000):
        bad = daemon.peer()
        bad.send(harmless + b"\nDUMP\n")
        assert bad.socket.recv(100) == b"0\n"
    good.write("t", a=1)
    assert good.dump() == {"a": 1}
    assert "not a number" in daemon.log.read_text()


def test_a_peer_that_asks_and_never_reads(daemon):
    good = bootstrapped(daemon)
    good.write("t", **{f"storage-{n}": n for n in range(500)})
    greedy = daemon.peer()
    greedy.socket.settimeout(1)
    # However much the kernel takes, some day it takes no more.
    with pytest.raises(TimeoutError):
        while True:
            greedy.send(b"DUMP\n" * 100)
            assert resident_kilobytes(daemon) < 500_000
    assert len(good.dump()) == 500
    assert resident_kilobytes(daemon) < 500_000


def resident_kilobytes(daemon):
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    (found,) = (int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line)
    return found


def test_thousands_of_connections_come_and_go(daemon):
    before = len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
    good = bootstrapped(daemon)
    for number in range(3000):
        peer = daemon.peer()
        if number % 3:
            peer.begin(f"t{number}", "a")
            peer.abort(f"t{number}")
        peer.close()
    several = [daemon.peer() for _ in range(500)]
    for number, peer in enumerate(several):
        peer.write(f"s{number}", a=number + 1)
    for peer in several:
        peer.dump()
    assert good.dump() == {"a": 500}
    for peer in several:
        peer.close()
    wait_until(
        lambda: (
            len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir())) <= before + 2
        ),
        "all are closed on its side too",
    )


def test_dump_under_load_never_shows_a_torn_transaction(daemon):
    bootstrapped(daemon)
    over = threading.Event()
    tid = iter(range(1, 1 << 40))
    order = threading.Lock()

    def load(name: str) -> None:
        peer = daemon.peer()
        while not over.is_set():
            for _ in range(20):
                peer.begin(name, "a", "b")
                with order:
                    number = next(tid)
                peer.commit(name, a=number, b=number)
            # No more than the daemon can take: this is about order, not speed.
            peer.dump()

    threads = [threading.Thread(target=load, args=(f"zope{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        reader = daemon.peer()
        seen = [0]

        def look_again() -> bool:
            vector = reader.dump()
            assert not vector or vector["a"] == vector["b"]
            seen.append(vector.get("a", 0))
            return len(set(seen)) > 100

        # Transactions that always overlap do not freeze what is published.
        wait_until(look_again, "a hundred points")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert sorted(seen) == seen
    wait_until(
        lambda: tid_log.read_last(daemon.tid_log) == reader.dump(), "all on disk"
    )
    for state in tid_log.read_all(daemon.tid_log):
        assert state.vector["a"] == state.vector["b"]


def test_after_a_stop_it_goes_on_as_if_nothing_had_been(daemon):
    peer = bootstrapped(daemon)
    daemon.signal(signal.SIGSTOP)
    peer.write("t1", a=1)
    patient = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE)
    patient.sendall(b"DUMP\n")
    patient.settimeout(0.3)
    with pytest.raises(TimeoutError):
        patient.recv(1)
    daemon.signal(signal.SIGCONT)
    patient.settimeout(PATIENCE)
    assert patient.recv(100)
    assert peer.dump() == {"a": 1}


def test_a_transaction_without_an_end_stops_blocking(tmp_path):
    configuration = tmp_path / "tidstorage.conf"
    configuration.write_text("transaction-timeout 1\nburst-period 0\n")
    with running_daemon(tmp_path, "-c", configuration) as daemon:
        peer = bootstrapped(daemon)
        # All at once, so that the daemon has seen none of it for a second.
        peer.send(
            protocol.encode_begin("lost", ["a", "b"])
            + protocol.encode_begin("t", ["a"])
            + protocol.encode_commit("t", {"a": 1})
        )
        assert peer.dump() == {}
        wait_until(lambda: peer.dump() == {"a": 1}, "it is given up")
        (damage,) = wait_until(
            lambda: [
                entry
                for entry in journal_entries(daemon.journal)
                if isinstance(entry, WireDamage)
            ],
            "the damage is written down",
        )
        assert damage.transaction_id == "lost" and damage.storages == ("a", "b")
