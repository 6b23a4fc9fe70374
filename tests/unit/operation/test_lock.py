import json
import os
import signal
import socket
import subprocess
import sys
import threading
import types

import pytest

from tidstorage.errors import Locked
from tidstorage.operation import lock
from tidstorage.system import child

HOLD = """
import sys, types, pathlib, subprocess
from tidstorage.operation import lock
cluster = types.SimpleNamespace(run_directory=pathlib.Path(sys.argv[1]))
with lock.hold(cluster, "backup") as descriptor:
    if sys.argv[2] == "child":
        subprocess.Popen(["sleep", "600"], pass_fds=[descriptor])
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def cluster(tmp_path):
    return types.SimpleNamespace(run_directory=tmp_path / "run")


def holder(cluster, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(cluster.run_directory), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child.environment(),
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_is_free_again_after_use(cluster):
    for verb in ("backup", "restore"):
        with lock.hold(cluster, verb):
            pass


def test_says_who_holds_it_and_for_how_long(cluster):
    process = holder(cluster, "alone")
    try:
        with (
            pytest.raises(
                Locked, match=rf"backup \(process {process.pid} on .* \d+ min"
            ),
            lock.hold(cluster, "restore"),
        ):
            pass
    finally:
        process.communicate("")
    with lock.hold(cluster, "restore"):
        pass


def test_ends_with_a_killed_holder(cluster):
    process = holder(cluster, "alone")
    process.kill()
    process.communicate()
    with lock.hold(cluster, "restore"):
        pass


def test_outlasts_a_killed_holder_while_its_child_writes(cluster):
    process = holder(cluster, "child")
    process.kill()
    process.wait()
    try:
        with pytest.raises(Locked), lock.hold(cluster, "restore"):
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_an_unreadable_owner_is_still_a_lock(cluster):
    with lock.hold(cluster, "backup"):
        (cluster.run_directory / lock.FILE_NAME).write_text("")
        with pytest.raises(Locked, match="another operation"), lock.hold(cluster, "x"):
            pass


def test_waits_for_the_end_of_the_former_run(cluster):
    process = holder(cluster, "alone")
    reached = threading.Event()

    def end_it():
        reached.wait()
        process.communicate("")

    ending = threading.Thread(target=end_it)
    ending.start()
    with pytest.raises(Locked), lock.hold(cluster, "restore"):
        pass
    reached.set()
    with lock.waiting(60), lock.hold(cluster, "restore"):
        assert json.loads(owner_file(cluster).read_text())["verb"] == "restore"
    ending.join()


def test_gives_up_waiting_and_says_for_whom(cluster):
    process = holder(cluster, "alone")
    try:
        with (
            pytest.raises(Locked, match=rf"process {process.pid} .* waited 0.3 s"),
            lock.waiting(0.3),
            lock.hold(cluster, "restore"),
        ):
            pass
    finally:
        process.communicate("")


def test_names_its_owner(cluster):
    with lock.hold(cluster, "prune"):
        owner = json.loads(owner_file(cluster).read_text())
    assert owner["verb"] == "prune"
    assert owner["pid"] == os.getpid()
    assert owner["host"] == socket.gethostname()
    assert owner_file(cluster).read_text() == ""


def test_a_link_in_its_place_is_not_followed(cluster, tmp_path):
    cluster.run_directory.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("precious")
    owner_file(cluster).symlink_to(precious)
    with pytest.raises(OSError, match="symbolic"), lock.hold(cluster, "backup"):
        pass
    assert precious.read_text() == "precious"


def owner_file(cluster):
    return cluster.run_directory / lock.FILE_NAME
