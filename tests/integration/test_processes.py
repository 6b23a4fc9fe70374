"""A deployed cluster's processes: real supervisord, ZEO servers, daemon and Zopes."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from built_clusters import Deployed, deployed_in
from real_processes import PATIENCE, free_port, wait_until

from tidstorage.cluster.cluster import Cluster
from tidstorage.cluster.load import load_cluster
from tidstorage.coherence import point
from tidstorage.deployment import initialise
from tidstorage.errors import (
    DescriptionError,
    InterruptedRestore,
    Locked,
    NotReady,
    PortInUse,
    UnknownPart,
)
from tidstorage.operation.unfinished import swap_journal
from tidstorage.points.beside import newest_point, point_path, read_point, write_beside
from tidstorage.processes import control, running, starting, supervisor
from tidstorage.processes.process import Process, list_processes
from tidstorage.system import clock, proc

pytestmark = pytest.mark.integration

SERVERS = ["alpha", "beta"]


@pytest.fixture
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    # A short name: supervisor's socket lies below it.
    with deployed_in(tmp_path_factory.mktemp("d") / "site") as found:
        yield found


def test_whole_cluster_from_nothing_to_nothing(deployed: Deployed) -> None:
    cluster = deployed.cluster
    with pytest.raises(NotReady, match="never initialised"):
        deployed.start()

    done = initialise.initialise(cluster, deployed.told.append)
    assert done.mounted == ("/catalog", "/media")
    assert done.password_file is not None
    assert done.password_file.stat().st_mode & 0o777 == 0o600
    assert deployed.processes() == [], "init stops what it started"
    first = read_point(point_path(cluster.storages[0].data_file))
    assert first == done.point
    assert all(first.vector[each.id] > 0 for each in cluster.storages)
    again = initialise.initialise(cluster, deployed.told.append)
    assert again == initialise.Initialised((), None, None)

    # Of a site that has its users and mount points, init changes nothing.
    done.password_file.rename(kept := done.password_file.with_suffix(".kept"))
    (kept.parent / "initialised.json").unlink()
    again = initialise.initialise(cluster, deployed.told.append)
    assert again == initialise.Initialised((), None, None)
    assert not done.password_file.exists()

    deployed.told.clear()
    assert deployed.start() == [each.label for each in list_processes(cluster)]
    answers = [each.split(" answers")[0] for each in deployed.told if "answers" in each]
    assert {*answers[:2]} == {"ZEO server alpha", "ZEO server beta"}
    assert answers[2] == "coherency daemon"
    assert {*answers[3:]} == {"Zope web-1", "Zope web-2"}

    password = kept.read_text().strip()
    for zope in cluster.zopes:
        for path in ("", "catalog/", "media/"):
            url = f"http://127.0.0.1:{zope.port}/{path}manage_main"
            assert http_status(url, password) == 200
    assert http_status(url, "wrong") == 401

    (kept.parent / "initialised.json").unlink()
    again = initialise.initialise(cluster, deployed.told.append)
    assert (again.mounted, again.password_file, again.point) == ((), None, None)

    before = deployed.pids()
    assert deployed.start() == [], "a second start has nothing to do"
    assert deployed.pids() == before

    found = json.loads(deployed.run("status", "--json").stdout)
    assert {each["state"] for each in found["parts"]} == {"running"}
    assert {each["program"]: each["pids"] for each in found["parts"]} == {
        program: [pid] for program, pid in before.items()
    }
    assert all(each["supervised"] for each in found["parts"])
    assert found["dump"] is not None

    up = running.find_running(cluster)
    assert len(up) == 6 and up[0] == f"ZEO server alpha (pid {before['zeo-alpha']})"
    deployed.told.clear()
    assert len(deployed.stop()) == 6
    assert [each.split(" is")[0] for each in deployed.told] == [
        "Zope web-1",
        "Zope web-2",
        "coherency daemon",
        "ZEO server alpha",
        "ZEO server beta",
    ]
    assert deployed.processes() == []
    assert running.find_running(cluster) == []
    assert deployed.stop() == [], "a second stop has nothing to do"


def http_status(url: str, password: str) -> int:
    secret = base64.b64encode(f"admin:{password}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {secret}"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_foreign_port_is_named_with_its_occupant_and_nothing_starts(
    deployed: Deployed,
) -> None:
    port = deployed.scratch.zeos["beta"]
    # The listener is this very process, which is never one of ours.
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(PortInUse, match=f":{port} for ZEO server beta") as caught,
    ):
        deployed.start(*SERVERS)
    assert "ZEO server alpha" not in str(caught.value)
    assert deployed.processes() == []


def test_occupant_is_found_in_another_process() -> None:
    port = free_port()
    server = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(server, stderr=subprocess.DEVNULL) as process:
        try:
            found = wait_until(
                lambda: (
                    (seen := proc.find_listener(("127.0.0.1", port)))
                    and seen.pid
                    and seen
                ),
                "it listens",
            )
        finally:
            process.kill()
    assert found.pid == process.pid
    assert f"http.server {port}" in found.command


def test_changed_port_restarts_that_server_alone(deployed: Deployed) -> None:
    deployed.start(*SERVERS)
    before = deployed.pids()
    deployed.scratch.zeos["beta"] = free_port()
    deployed.deploy()
    plan = control.make_plan(deployed.cluster, SERVERS)
    assert [each.name for each in plan.restart] == ["beta"]
    assert deployed.start(*SERVERS) == ["ZEO server beta"]
    after = deployed.pids()
    assert after["zeo-alpha"] == before["zeo-alpha"]
    assert after["zeo-beta"] != before["zeo-beta"]


def test_removed_server_is_stopped(deployed: Deployed) -> None:
    pretend_initialised(deployed.cluster)
    deployed.scratch.zopes.clear()
    deployed.deploy()
    deployed.start()
    deployed.scratch.storages["media"] = ("alpha", True)
    del deployed.scratch.zeos["beta"]
    deployed.deploy()
    deployed.start()
    assert deployed.pids().keys() == {"zeo-alpha", "tidstorage"}
    assert not any("zeo-beta" in each for each in deployed.processes())


def pretend_initialised(cluster: Cluster) -> None:
    floor = point.Point({}, clock.now(), "barrier")
    write_beside(floor, [each.data_file for each in cluster.storages])


def test_a_server_killed_amid_a_start_is_waited_for(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.start(*SERVERS)
    pid = deployed.pids()["zeo-alpha"]
    really_not_ready = starting.not_ready
    killed: list[int] = []

    def kill_first(part: Process) -> str | None:
        if part.program == "zeo-alpha" and not killed:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            return "was killed just now"
        return really_not_ready(part)

    monkeypatch.setattr(starting, "not_ready", kill_first)
    assert deployed.start(*SERVERS) == []
    assert killed
    assert deployed.pids()["zeo-alpha"] != pid


def test_a_server_that_supervisor_starts_amid_a_start_is_no_orphan(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.start(*SERVERS)
    first = deployed.pids()["zeo-alpha"]
    really_find_pids = starting.find_pids
    second: list[int] = []

    def after_a_kill(parts: list[Process]) -> dict[str, list[int]]:
        if not second:
            os.kill(first, signal.SIGKILL)
            found = wait_until(
                lambda: [
                    pid
                    for pid in really_find_pids(parts).get("zeo-alpha", [])
                    if pid != first
                ],
                "supervisor starts the killed server again",
            )
            second.extend(found)
        return really_find_pids(parts)

    monkeypatch.setattr(starting, "find_pids", after_a_kill)
    assert deployed.start(*SERVERS) == []
    assert deployed.pids()["zeo-alpha"] == second[0]


def test_servers_outlive_a_killed_supervisord_and_are_taken_over(
    deployed: Deployed,
) -> None:
    deployed.start(*SERVERS)
    before = deployed.pids()
    (pid,) = supervisor.pids(deployed.cluster)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not proc.is_alive(pid), "supervisord is gone")
    up = running.find_running(deployed.cluster)
    assert up == [
        f"ZEO server {name} (pid {before[f'zeo-{name}']})" for name in SERVERS
    ]
    assert len(deployed.start(*SERVERS)) == 2
    assert not set(before.values()) & set(deployed.pids().values())


def test_stop_ends_what_no_supervisor_knows(deployed: Deployed) -> None:
    deployed.start(*SERVERS)
    (pid,) = supervisor.pids(deployed.cluster)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not proc.is_alive(pid), "supervisord is gone")
    assert deployed.stop() == ["ZEO server alpha", "ZEO server beta"]
    assert deployed.processes() == []
    assert not any("killed" in each for each in deployed.told)


def test_stopped_supervisord_does_not_hold_up_the_stop(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.start("alpha")
    monkeypatch.setattr(supervisor, "_CALL_SECONDS", 1.0)
    (pid,) = supervisor.pids(deployed.cluster)
    os.kill(pid, signal.SIGSTOP)
    deployed.stop()
    assert deployed.processes() == []


def test_server_that_does_not_end_is_killed_and_named(deployed: Deployed) -> None:
    deployed.start(*SERVERS)
    pid = deployed.pids()["zeo-beta"]
    os.kill(pid, signal.SIGSTOP)
    control.stop(deployed.cluster, tell=deployed.told.append, seconds=1)
    assert f"ZEO server beta (pid {pid}) did not end within 1 s: killed" in (
        deployed.told
    )
    assert deployed.processes() == []


def test_what_is_being_stopped_is_started_once_it_has_ended(deployed: Deployed) -> None:
    """supervisord says that it has started it, and has not."""
    deployed.start("beta")
    supervised = supervisor.running(deployed.cluster)
    assert supervised is not None
    pid = supervised.programs()["zeo-beta"].pid
    os.kill(pid, signal.SIGSTOP)
    supervised.stop("zeo-beta")
    assert supervised.programs()["zeo-beta"].state == "STOPPING"
    going_on = threading.Timer(0.5, os.kill, (pid, signal.SIGCONT))
    going_on.start()
    assert deployed.start("beta") == ["ZEO server beta"]
    going_on.join()
    assert supervised.programs()["zeo-beta"].pid != pid


def test_server_that_cannot_start_is_named_with_its_last_words(
    deployed: Deployed,
) -> None:
    configuration = deployed.cluster.zeo("beta").configuration
    text = configuration.read_text()
    configuration.write_text(text.replace("pack-gc false", "pack-gc perhaps"))
    # Its end is noticed, not waited for: that is another error.
    with pytest.raises(NotReady, match=r"ended while it started: .*beta") as caught:
        deployed.start(*SERVERS)
    assert "alpha" not in str(caught.value)
    assert "not a valid boolean" in caught.value.hint
    found = supervisor.running(deployed.cluster)
    assert found is not None and not found.programs()["zeo-beta"].is_up, (
        "what cannot start is not tried for ever"
    )
    configuration.write_text(text)
    assert deployed.start("beta") == ["ZEO server beta"]


def test_server_that_is_up_but_silent_is_waited_for(deployed: Deployed) -> None:
    deployed.start(*SERVERS)
    pid = deployed.pids()["zeo-alpha"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(NotReady, match=r"ZEO server alpha: .*does not answer"):
            deployed.start(*SERVERS, seconds=1)
        found = json.loads(deployed.run("status", "--json").stdout)
        assert found["parts"][0]["state"] == "silent"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert deployed.start(*SERVERS) == []


def test_reused_pid_of_a_pid_file_is_nobody_of_ours(deployed: Deployed) -> None:
    cluster = deployed.cluster
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            cluster.daemon.pid_file.write_text(f"{stranger.pid}\n")
            assert running.find_running(cluster) == []
            assert deployed.stop() == []
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_server_started_by_hand_counts_by_its_configuration(
    deployed: Deployed,
) -> None:
    zeo = deployed.cluster.zeo("alpha")
    command = [sys.executable, "-m", "ZEO.runzeo", "-C", str(zeo.configuration)]
    with subprocess.Popen(command) as process:
        try:
            wait_until(zeo.pid_file.exists, "its pid file")
            label = f"ZEO server alpha (pid {process.pid})"
            wait_until(lambda: label in running.find_running(deployed.cluster), label)
            assert deployed.stop() == ["ZEO server alpha"]
        finally:
            process.kill()


def test_foreign_server_on_the_files_counts_by_its_lock(deployed: Deployed) -> None:
    from ZODB.FileStorage import FileStorage

    data_file = deployed.cluster.storage("media").data_file
    storage = FileStorage(str(data_file))
    try:
        assert running.find_running(deployed.cluster) == [
            f"a process that has {data_file} open for writing"
        ]
    finally:
        storage.close()
    assert running.find_running(deployed.cluster) == []


def test_foreign_answer_at_an_address_counts(deployed: Deployed) -> None:
    port = deployed.scratch.zopes["web-1"]
    # Which also takes a port on which connections of others ended a moment ago.
    with socket.create_server(("127.0.0.1", port)):
        (found,) = running.find_running(deployed.cluster)
    assert found.startswith(f"Zope web-1 or another at its address 127.0.0.1:{port}")


def test_interrupted_restore_refuses_the_start(deployed: Deployed) -> None:
    swap_journal(deployed.cluster).write_text("{}")
    with pytest.raises(InterruptedRestore):
        deployed.start(*SERVERS)
    assert deployed.processes() == []


def test_renamed_storage_does_not_begin_empty(deployed: Deployed) -> None:
    deployed.start(*SERVERS)
    deployed.stop()
    description = deployed.cluster.file
    text = description.read_text()
    assert 'id = "catalog"' in text
    description.write_text(
        text.replace('id = "catalog"', 'id = "index"\naliases = ["catalog"]')
    )
    renamed = load_cluster(description)
    with pytest.raises(DescriptionError, match="formerly catalog") as caught:
        control.start(renamed, SERVERS)
    assert 'path = "var/storage/catalog/Data.fs"' in caught.value.hint
    assert deployed.processes() == []


def test_two_starts_at_once_are_refused(deployed: Deployed) -> None:
    def start_again(_text: str) -> None:
        with pytest.raises(Locked):
            control.start(deployed.cluster, SERVERS)

    control.start(deployed.cluster, ["alpha"], tell=start_again)


def test_unknown_name_is_refused_with_the_known_ones(deployed: Deployed) -> None:
    with pytest.raises(UnknownPart, match="gamma") as caught:
        deployed.start("gamma")
    assert "zeo-alpha" in caught.value.hint


def test_verbs_report_and_dry_runs_change_nothing(deployed: Deployed) -> None:
    planned = deployed.run("start", "--dry-run", "--json", *SERVERS)
    assert json.loads(planned.stdout)["start"] == [
        "ZEO server alpha",
        "ZEO server beta",
    ]
    assert deployed.processes() == []
    started = deployed.run("start", "--json", "alpha")
    assert started.returncode == 0, started.stderr
    assert json.loads(started.stdout) == {"started": ["ZEO server alpha"]}
    assert "Nothing to do" in deployed.run("start", "alpha").stdout
    pid = deployed.pids()["zeo-alpha"]
    assert deployed.run("status").returncode == 6, "not all of it runs"
    restarted = deployed.run("restart", "alpha")
    assert restarted.returncode == 0, restarted.stderr
    assert deployed.pids()["zeo-alpha"] != pid
    deployed.run("stop", "--dry-run")
    assert "zeo-alpha" in deployed.pids()
    stopped = json.loads(deployed.run("stop", "--json").stdout)
    assert stopped == {"stopped": ["ZEO server alpha", "supervisord"]}
    failed = deployed.run("start", "gamma")
    assert failed.returncode == UnknownPart.exit_status
    assert "hint: There are: zeo-alpha" in failed.stderr
    assert newest_point(deployed.cluster) is None
