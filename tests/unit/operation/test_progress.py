"""Counting, telling and finding out how far an operation is."""

import argparse
import datetime
import json
import os
import pty
import sys
import threading
import types

import dying
import pytest
from real_processes import PATIENCE, wait_until

from tidstorage.commands import progress_display
from tidstorage.operation import progress
from tidstorage.system import clock


@pytest.fixture
def cluster(tmp_path):
    return types.SimpleNamespace(run_directory=tmp_path / "run")


def snapshot(**changes):
    return progress.Snapshot(
        **{
            "verb": "backup",
            "pid": os.getpid(),
            "host": "here",
            "since": clock.now(),
            "at": clock.now(),
            "phase": "copy",
            "items": ("catalog", "root"),
            "unit": "bytes",
            "done": 1_250_000_000,
            "total": 5_000_000_000,
            "rate": 310_000_000.0,
            "remaining": 72.4,
            **changes,
        }
    )


def test_threads_count_together(cluster):
    seen = []
    with (
        progress.operation(cluster, "backup", seen.append) as operation,
        operation.phase("copy", 8_000) as phase,
    ):

        def work():
            for _ in range(1_000):
                phase.advance(1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert (seen[-1].done, seen[-1].total, seen[-1].phase) == (8_000, 8_000, "copy")


def test_rate_and_remaining_time_are_those_of_late(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    phase = progress.Phase("copy", 1_000, "bytes")
    assert phase.look() == (0, (), None, None)
    # Slow at first; what is left goes as fast as the last twenty seconds.
    for _ in range(10):
        now[0] += 5
        phase.advance(1)
        phase.look()
    for _ in range(5):
        now[0] += 5
        phase.advance(50)
        found = phase.look()
    assert found == (260, (), 10.0, 74.0)


def test_what_is_worked_on_is_named_while_it_is(cluster):
    with progress.operation(cluster, "backup") as operation:
        with operation.phase("copy") as phase:
            with phase.item("catalog"), phase.item("root"):
                assert operation.look().items == ("catalog", "root")
            assert operation.look().items == ()
        assert operation.look().phase == ""


def test_another_process_is_found_until_it_ends(cluster):
    ours, theirs = os.pipe(), os.pipe()

    def work():
        with (
            progress.operation(cluster, "verify") as operation,
            operation.phase("load", 10, "objects") as phase,
            phase.item("root"),
        ):
            phase.advance(4)
            os.write(ours[1], b".")
            os.read(theirs[0], 1)

    thread = threading.Thread(target=dying.in_child, args=[work])
    thread.start()
    os.read(ours[0], 1)
    (found,) = wait_until(lambda: progress.find_running(cluster), "it is seen")
    assert (found.verb, found.phase, found.items) == ("verify", "load", ("root",))
    assert (found.done, found.total, found.unit) == (4, 10, "objects")
    os.write(theirs[1], b".")
    thread.join()
    assert progress.find_running(cluster) == []
    assert list(cluster.run_directory.iterdir()) == []


@pytest.mark.parametrize("whose", ["nobody's", "another's"])
def test_what_a_killed_process_left_is_passed_over(cluster, whose):
    def work():
        with progress.operation(cluster, "backup"):
            wait_until(lambda: progress.find_running(cluster), "it is seen")
            os._exit(dying.DIED)

    assert dying.in_child(work) == dying.DIED
    (left,) = cluster.run_directory.iterdir()
    if whose == "another's":
        # The number was given to a process that began later.
        stored = json.loads(left.read_text())
        stored["pid"] = os.getpid()
        long_ago = clock.now() - datetime.timedelta(days=400)
        stored["since"] = stored["at"] = long_ago.isoformat()
        left.write_text(json.dumps(stored))
    assert progress.find_running(cluster) == []
    assert not left.exists()


def test_what_cannot_be_read_is_passed_over(cluster):
    cluster.run_directory.mkdir()
    (cluster.run_directory / "progress.1.json").write_text('{"verb": "backup"}')
    (cluster.run_directory / "progress.2.json").write_text("")
    assert progress.find_running(cluster) == []


def test_nobody_to_be_told_is_no_reason_to_fail(tmp_path):
    (tmp_path / "file").touch()
    nowhere = types.SimpleNamespace(run_directory=tmp_path / "file" / "run")
    seen = []
    with (
        progress.operation(nowhere, "backup", seen.append) as operation,
        operation.phase("copy") as phase,
    ):
        phase.advance(1)
        # The begin, and then two of the thread's: it has outlived a failure.
        wait_until(lambda: len(seen) > 2, "the thread looks")
    assert progress.find_running(nowhere) == []


def test_a_terminal_that_is_stopped_stops_nothing(cluster, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 0.1)
    stopped, asked = threading.Event(), threading.Event()

    def show(_snapshot):
        asked.set()
        assert stopped.wait(PATIENCE)

    with progress.operation(cluster, "backup", show) as operation:
        for name in ("compare", "copy", "copy blobs"):
            with operation.phase(name, 1) as phase:
                phase.advance(1)
                assert asked.wait(PATIENCE)
    (thread,) = [t for t in threading.enumerate() if t.name == "progress"]
    stopped.set()
    thread.join(30)
    assert progress.find_running(cluster) == []


def test_an_error_ends_the_telling(cluster):
    with pytest.raises(ZeroDivisionError), progress.operation(cluster, "backup"):
        raise ZeroDivisionError
    assert [t.name for t in threading.enumerate() if t.name == "progress"] == []


def test_numbers_are_said_as_far_as_they_are_known():
    assert progress_display.describe_work(snapshot()) == "backup: copy catalog, root"
    assert progress_display.format_numbers(snapshot()) == (
        "1.2 GB of 5.0 GB, 25%, 310.0 MB/s, 1 min 12 s left"
    )
    assert progress_display.format_numbers(snapshot(total=None, remaining=None)) == (
        "1.2 GB, 310.0 MB/s"
    )
    between = snapshot(
        phase="", items=(), done=0, total=None, rate=None, remaining=None
    )
    assert progress_display.describe_work(between) == "backup"
    assert progress_display.format_numbers(between) == ""
    assert "12 objects/s" in progress_display.format_numbers(
        snapshot(unit="objects", rate=12)
    )


def test_one_sentence_tells_it_to_another_shell():
    said = progress_display.describe_operation(snapshot(pid=7))
    assert said.startswith(
        "backup: copy catalog, root; 1.2 GB of 5.0 GB, 25%, 310.0 MB/s, 1 min 12 s"
        " left; process 7 since 20"
    )
    assert "it has said nothing" not in said
    long_ago = clock.now() - datetime.timedelta(minutes=5)
    said = progress_display.describe_operation(snapshot(at=long_ago))
    assert said.endswith("; it has said nothing for 5 min 0 s")


def shown(arguments):
    parser = argparse.ArgumentParser()
    progress_display.add_option(parser)
    return progress_display.show_progress(parser.parse_args(arguments))


def test_json_lines_go_to_standard_error(capsys):
    told = snapshot()
    with shown(["--progress", "json"]) as show:
        show(told)
        show(told)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [json.loads(line) for line in lines] == [told.to_json()] * 2
    assert progress.Snapshot.model_validate_json(lines[0]) == told


@pytest.mark.parametrize("arguments", [[], ["--progress", "none"]])
def test_without_a_terminal_nothing_is_said(arguments, capsys):
    with shown(arguments) as show:
        show(snapshot())
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar(monkeypatch):
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with os.fdopen(theirs, "w", buffering=1) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with shown([]) as show:
            show(snapshot())
    drawn = b""
    while b"left" not in drawn:
        drawn += os.read(ours, 65536)
    os.close(ours)
    assert "backup: copy catalog, root" in drawn.decode()
    assert "1.2 GB of 5.0 GB, 25%, 310.0 MB/s, 1 min 12 s left" in drawn.decode()
