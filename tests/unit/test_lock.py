import os
import signal
import subprocess
import sys
import types

import pytest

from tidstorage import child, lock
from tidstorage.errors import Locked

HOLD = """
import sys, types, pathlib, subprocess
from tidstorage import lock
cluster = types.SimpleNamespace(run_directory=pathlib.Path(sys.argv[1]))
with lock.hold(cluster, "backup") as descriptor:
    if sys.argv[2] == "child":
        subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
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
            pytest.raises(Locked, match=rf"backup \(process {process.pid} on .* 0 min"),
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
