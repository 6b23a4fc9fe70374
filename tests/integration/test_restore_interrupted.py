"""Restores that are killed or fail at any step: the next run mends."""

import pickle
import subprocess
import sys

import pytest
from real_processes import PATIENCE
from restored import check_restored, contents, failing

from tidstorage.errors import (
    InterruptedRestore,
)
from tidstorage.operation.unfinished import interrupted_swap, plan_beside
from tidstorage.system import child
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore import swap
from tidstorage.verbs.restore.outcome import Ended
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_in_place

pytestmark = pytest.mark.integration


STEPS = (
    "assemble.data_file",
    "cutting.cut_staged",
    "check.check",
    "assemble.blob_directory",
    "swap.write",
    "swap.execute",
    "swap.finish",
)


RESTORE_AND_DIE = """
import itertools, os, pickle, sys
from tidstorage.processes import running
from tidstorage.system.clock import local
from tidstorage.verbs.restore import assemble, check, cutting, restore, swap
running.find_running = lambda cluster: []
step, count, before = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "before"
module, name = step.split(".")
module = dict(assemble=assemble, check=check, cutting=cutting, restore=restore,
              swap=swap)[module]
original = getattr(module, name)
calls = itertools.count(1)
def wrapped(*arguments):
    # Several threads may be in here at once: each has its own number.
    chosen = next(calls) == count
    if before and chosen:
        os._exit(9)
    result = original(*arguments)
    if chosen:
        os._exit(9)
    return result
setattr(module, name, wrapped)
restore.restore_in_place(pickle.load(sys.stdin.buffer), restore.Request())
"""


def restore_and_die(cluster, step, count=1, when="after"):
    """A restore in a process that ends at that step; whether it came there."""
    ended = subprocess.run(
        [sys.executable, "-c", RESTORE_AND_DIE, step, str(count), when],
        input=pickle.dumps(cluster),
        env=child.environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode in (0, 9)
    return ended.returncode == 9


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_step_the_next_run_mends(lost, when):
    cluster, made = lost
    before = contents(cluster)
    for step in STEPS:
        assert restore_and_die(cluster, step, when=when)
        begun = interrupted_swap(cluster)
        assert bool(begun) == (
            (step, when)
            in {
                ("swap.write", "after"),
                ("swap.execute", "before"),
                ("swap.execute", "after"),
                ("swap.finish", "before"),
            }
        ), step
        if begun:
            with pytest.raises(InterruptedRestore):
                back_up(cluster)
            report = restore_in_place(cluster, Request(set_id="whatever"))
            assert isinstance(report, Ended)
            assert report.kept
        else:
            untouched = contents(cluster)
            if not any("before-restore" in path.name for path in untouched):
                assert {p: c for p, c in untouched.items() if p in before} == before
            restore_in_place(cluster, Request())
        check_restored(cluster, made)
        assert not [each for each in contents(cluster) if "restoring" in str(each)], (
            step
        )


def test_killed_at_each_action_of_the_swap_the_next_run_mends(lost):
    cluster, made = lost
    count = 1
    while restore_and_die(cluster, "swap.perform_action", count):
        assert interrupted_swap(cluster)
        assert isinstance(restore_in_place(cluster, Request()), Ended)
        check_restored(cluster, made)
        count += 1
    assert count > 10
    check_restored(cluster, made)


def test_a_disk_that_fills_up_in_the_swap_is_told_with_what_to_do(lost, monkeypatch):
    cluster, made = lost

    def full(*arguments):
        raise OSError(28, "No space left on device", "x")

    with monkeypatch.context() as patched:
        patched.setattr(swap, "write_beside", full)
        with pytest.raises(InterruptedRestore, match="No space left") as caught:
            restore_in_place(cluster, Request())
    assert "run the same restore again" in caught.value.hint
    assert isinstance(restore_in_place(cluster, Request()), Ended)
    check_restored(cluster, made)


def test_what_an_interrupted_cut_was_to_do_ends_with_the_old_files(lost):
    """The cluster would refuse to start for a plan that is of other files."""
    cluster, made = lost
    plan = plan_beside(cluster.storages[0].data_file)
    plan.write_text("of the old file")
    restore_in_place(cluster, Request())
    assert not plan.exists()
    check_restored(cluster, made)


def test_interrupted_by_the_keyboard_amid_the_swap(lost, monkeypatch):
    cluster, made = lost
    with monkeypatch.context() as patched:
        patched.setattr(swap, "write_beside", failing(KeyboardInterrupt()))
        with pytest.raises(InterruptedRestore) as caught:
            restore_in_place(cluster, Request())
    assert "Run the same restore again" in caught.value.hint
    assert isinstance(restore_in_place(cluster, Request()), Ended)
    check_restored(cluster, made)
