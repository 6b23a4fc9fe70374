"""Whatever ends processes ends Zopes before the daemon, and that before ZEO servers.

Seen in the ends of the real processes.  A server that ends under a Zope leaves commits
that are finished on one server and not on the other.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator

import pytest
from built_clusters import Deployed, deployed_in
from real_processes import wait_until

from tidstorage.coherence import point
from tidstorage.points.beside import write_beside
from tidstorage.processes import control, running, stopping, supervisor
from tidstorage.system import clock, proc

pytestmark = pytest.mark.integration

ZOPES = {"zope-web-1", "zope-web-2"}
#: Seconds in which servers that nobody waits with end, on a busy machine too.
A_WHILE = 5.0


@pytest.fixture
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    # A short name: supervisor's socket lies below it.
    with deployed_in(tmp_path_factory.mktemp("d") / "site") as found:
        # Zopes start on empty storages: one of them first, which makes the root.
        floor = point.Point({}, clock.now(), "barrier")
        write_beside(floor, [each.data_file for each in found.cluster.storages])
        found.start("alpha", "beta", "tidstorage", "web-1")
        found.start()
        yield found


def kill_supervisord(deployed: Deployed) -> None:
    (pid,) = supervisor.pids(deployed.cluster)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not proc.is_alive(pid), "supervisord is gone")


def see_ends(
    pids: dict[str, int], act: Callable[[], object], held: str = "zope-web-2"
) -> list[str]:
    """The programs in the order in which their processes end while something is done.

    held: a program that does not end for a while: it is stopped.
    """
    poller = select.poll()
    programs = {}
    for program, pid in pids.items():
        descriptor = os.pidfd_open(pid)
        programs[descriptor] = program
        poller.register(descriptor, select.POLLIN)
    os.kill(pids[held], signal.SIGSTOP)
    ended: list[str] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    release = time.monotonic() + A_WHILE
    try:
        while thread.is_alive():
            at_once = [descriptor for descriptor, _ in poller.poll(200)]
            for descriptor in at_once:
                poller.unregister(descriptor)
            # Of those that are found at once nobody can tell which was the first.
            ended += sorted((programs[each] for each in at_once), key=rank)
            if held not in ended and time.monotonic() > release:
                os.kill(pids[held], signal.SIGCONT)
    finally:
        thread.join()
        for descriptor in programs:
            os.close(descriptor)
    assert not failures, failures
    return ended


def rank(program: str) -> int:
    """0 for Zopes, 1 for the daemon, 2 for servers."""
    return ["zope", "tidstorage", "zeo"].index(program.partition("-")[0])


def check_order(ended: list[str], expected: Collection[str]) -> None:
    assert set(ended) == set(expected)
    assert ended == sorted(ended, key=rank)


def test_what_a_killed_supervisord_left_over(deployed: Deployed) -> None:
    before = deployed.pids()
    kill_supervisord(deployed)
    ended = see_ends(before, deployed.start)
    check_order(ended, before)
    assert not any("did not end" in line for line in deployed.told), deployed.told
    assert not set(before.values()) & set(deployed.pids().values())
    assert deployed.pids().keys() == before.keys()


def test_what_is_left_over_of_an_older_description(deployed: Deployed) -> None:
    before = deployed.pids()
    kill_supervisord(deployed)
    del deployed.scratch.zopes["web-2"]
    deployed.deploy()
    assert any(
        "zope-web-2, which is described no more" in text
        for text in running.find_running(deployed.cluster)
    )
    check_order(see_ends(before, deployed.start), before)
    assert deployed.pids().keys() == before.keys() - {"zope-web-2"}
    assert not any("zope-web-2" in line for line in deployed.processes())


def test_what_is_changed_and_what_is_described_no_more(deployed: Deployed) -> None:
    before = deployed.pids()
    deployed.scratch.storages["media"] = ("alpha", True)
    del deployed.scratch.zeos["beta"]
    deployed.deploy()
    ended = see_ends(before, deployed.start)
    check_order(ended, before)
    assert deployed.pids().keys() == before.keys() - {"zeo-beta"}


def test_zopes_are_restarted_with_a_server_that_has_changed(deployed: Deployed) -> None:
    before = deployed.pids()
    touch_digest(deployed, "zeo-beta")
    plan = control.make_plan(deployed.cluster)
    assert {each.program for each in plan.restart} == {"zeo-beta", *ZOPES}
    check_order(see_ends(before, deployed.start), {"zeo-beta", *ZOPES})


def touch_digest(deployed: Deployed, program: str) -> None:
    """Let supervisor see a change of one program, as bin/buildout would."""
    path = deployed.cluster.supervisor_configuration
    before, name, after = path.read_text().partition(f"[program:{program}]")
    key = 'TIDSTORAGE_CONFIGURATION="'
    path.write_text(before + name + after.replace(key, f"{key}changed", 1))


def test_stop_ends_what_is_described_no_more_in_its_turn(deployed: Deployed) -> None:
    before = deployed.pids()
    del deployed.scratch.zopes["web-2"]
    deployed.deploy()
    check_order(see_ends(before, deployed.stop), before)
    assert deployed.processes() == []


def test_unsupervised_process_is_asked_to_end_and_waited_for(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit()))\n"
        "print(flush=True)\n"
        "time.sleep(600)\n"
    )
    told: list[str] = []
    cluster = Deployed(tmp_path_factory.mktemp("d") / "site").cluster
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stopping.stop_processes(
            cluster, [], told.append, orphans={process.pid: "zope-slow"}
        )
        assert not proc.is_alive(process.pid)
        assert process.wait() == 0
    assert told == [f"zope-slow (pid {process.pid}) ran outside supervision: ended"]
