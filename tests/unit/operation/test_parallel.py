"""Work on several things at once, and its early end."""

import threading

import pytest
from real_processes import PATIENCE

from tidstorage.operation import parallel


def test_results_come_in_the_order_of_the_items():
    last = threading.Event()

    def work(item, _check):
        if item == 3:
            last.set()
        # The first ends last.
        assert last.wait(PATIENCE)
        return item * item

    assert parallel.run(3, work, [1, 2, 3]) == [1, 4, 9]


def test_no_more_than_so_many_at_a_time():
    running, most, lock = [], [], threading.Lock()

    def work(item, _check):
        with lock:
            running.append(item)
            most.append(len(running))
        with lock:
            running.remove(item)

    parallel.run(2, work, range(200))
    assert 1 <= max(most) <= 2


def test_a_failure_ends_what_would_go_on_for_hours():
    begun, ended = threading.Event(), []

    def work(item, check):
        if item == "fails":
            assert begun.wait(PATIENCE)
            raise OSError("disk full")
        begun.set()
        try:
            while True:
                check()
        finally:
            ended.append(item)

    with pytest.raises(OSError, match="disk full"):
        parallel.run(2, work, ["endless", "fails"])
    assert ended == ["endless"]


def test_an_interruption_ends_it_too(monkeypatch):
    begun = threading.Event()

    def interrupted(_futures):
        assert begun.wait(PATIENCE)
        raise KeyboardInterrupt

    def endless(_item, check):
        begun.set()
        while True:
            check()

    monkeypatch.setattr(parallel, "as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        parallel.run(1, endless, [1])
