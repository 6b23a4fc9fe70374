"""How far a long operation is: shown on its terminal, in a log, and by ``status``.

The code that does the work only counts::

    with progress.operation(cluster, "verify", show) as operation:
        with operation.phase("read files", total=size_of_all) as phase:
            with phase.item("catalog"):
                phase.advance(len(block))

A thread of its own looks at the counters twice a second, hands what it sees to
``show`` and keeps it in ``progress.<pid>.json`` in the cluster's run directory,
where `find_running` finds it.  Counting costs next to nothing, may be done by several
threads, and never fails: a full disk does not end a backup only because nobody can be
told how far it is.
"""

import collections
import contextlib
import datetime
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tidstorage.cluster.cluster import Cluster
from tidstorage.system import clock, proc
from tidstorage.system.json_file import Shape

Unit = Literal["bytes", "objects", "transactions"]

#: Seconds between two looks at the counters.
INTERVAL = 0.5
#: Seconds that the rate is the mean of: long enough to be steady.
_RATE_SECONDS = 20.0
_FILE = "progress.{}.json"
#: Seconds that an operation waits at its end for whoever shows how far it was.
_PATIENCE = 2.0


class Snapshot(Shape):
    """How far an operation is at one moment.

    verb, pid, host: whose it is.  since, at: when it began, and this moment, in
    UTC.  phase: what it does; items: which storages (or files) it does that with;
    empty between phases.  done, total: in ``unit``; total is None where nobody
    knows.  rate: units a second, of late.  remaining: seconds to the end of the
    phase.  Both None where nothing can be said yet.
    """

    verb: str
    pid: int
    host: str
    since: datetime.datetime
    at: datetime.datetime
    phase: str
    items: tuple[str, ...]
    unit: Unit
    done: int
    total: int | None
    rate: float | None
    remaining: float | None

    def to_json(self) -> dict[str, Any]:
        """As ``status --json`` and ``--progress json`` print it."""
        return self.model_dump(mode="json")


Show = Callable[[Snapshot], None]
Advance = Callable[[int], None]


def show_nothing(_snapshot: Snapshot) -> None:
    """Show nothing: for operations that nobody watches."""


def count_nothing(_count: int) -> None:
    """Count nothing: for work that belongs to no phase."""


class Phase:
    """A part of an operation, with a total that is known or not."""

    def __init__(self, name: str, total: int | None, unit: Unit) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self._done = 0
        self._items: list[str] = []
        self._lock = threading.Lock()
        # (moment, done) of late, the oldest first.
        self._looks = collections.deque([(time.monotonic(), 0)])

    def advance(self, count: int) -> None:
        """Count units that are done; negative where work is begun again."""
        with self._lock:
            self._done += count

    def expect(self, total: int) -> None:
        """Set the total, where it becomes known late, or changes."""
        self.total = total

    @contextlib.contextmanager
    def item(self, name: str) -> Iterator[None]:
        """Name what is worked on in the ``with`` block; threads may do so at once."""
        with self._lock:
            self._items.append(name)
        try:
            yield
        finally:
            with self._lock:
                self._items.remove(name)

    def look(self) -> tuple[int, tuple[str, ...], float | None, float | None]:
        """(done, items, rate, remaining seconds) at this moment."""
        now = time.monotonic()
        with self._lock:
            done, items = self._done, tuple(self._items)
        self._looks.append((now, done))
        while len(self._looks) > 2 and now - self._looks[0][0] > _RATE_SECONDS:
            self._looks.popleft()
        then, before = self._looks[0]
        rate = (done - before) / (now - then) if now > then else 0.0
        if rate <= 0:
            return done, items, None, None
        left = None if self.total is None else max(0, self.total - done) / rate
        return done, items, rate, left


class Operation:
    """One run of a verb; made by `operation`."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._since = clock.now()
        self._phase = Phase("", None, "bytes")
        self._looking = threading.Lock()
        #: What is to be told; None at the end.
        self.told: queue.SimpleQueue[Snapshot | None] = queue.SimpleQueue()

    @contextlib.contextmanager
    def phase(
        self, name: str, total: int | None = None, unit: Unit = "bytes"
    ) -> Iterator[Phase]:
        """Name, in a few words, what is done in the ``with`` block."""
        self._phase = phase = Phase(name, total, unit)
        self.told.put(self.look())
        try:
            yield phase
            self.told.put(self.look())
        finally:
            self._phase = Phase("", None, "bytes")

    def look(self) -> Snapshot:
        """How far it is now."""
        with self._looking:
            phase = self._phase
            done, items, rate, remaining = phase.look()
            return Snapshot(
                verb=self._verb,
                pid=os.getpid(),
                host=socket.gethostname(),
                since=self._since,
                at=clock.now(),
                phase=phase.name,
                items=items,
                unit=phase.unit,
                done=done,
                total=phase.total,
                rate=rate,
                remaining=remaining,
            )


@contextlib.contextmanager
def operation(
    cluster: Cluster, verb: str, show: Show = show_nothing
) -> Iterator[Operation]:
    """Show, and keep for others, how far a run of a verb is in the ``with`` block.

    show: called twice a second, and at the begin and the end of each phase, always by
    a thread of its own; it must not raise.  It may take any time, as when somebody has
    stopped the terminal (^S): the work waits for it only at its end, and not long.
    """
    path = cluster.run_directory / _FILE.format(os.getpid())
    told, ended = Operation(verb), threading.Event()
    follower = threading.Thread(
        target=_follow, args=(told, path, show, ended), name="progress", daemon=True
    )
    follower.start()
    try:
        yield told
    finally:
        ended.set()
        told.told.put(None)
        follower.join(_PATIENCE)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _follow(told: Operation, path: Path, show: Show, ended: threading.Event) -> None:
    kept = time.monotonic()
    while True:
        try:
            snapshot = told.told.get(timeout=INTERVAL)
            if snapshot is None:
                return
        except queue.Empty:
            snapshot = told.look()
        if time.monotonic() - kept >= INTERVAL and not ended.is_set():
            kept = time.monotonic()
            _keep(snapshot, path)
        show(snapshot)


def _keep(snapshot: Snapshot, path: Path) -> None:
    beside = path.with_name(f".{path.name}.new")
    # Not flushed to disk: with the machine the operation is gone as well.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(snapshot.model_dump_json() + "\n")
        beside.rename(path)


def find_running(cluster: Cluster) -> list[Snapshot]:
    """The operations of other processes that are under way, the oldest first.

    What a killed process left behind is passed over, and removed where possible.
    """
    operations = []
    for path in cluster.run_directory.glob(_FILE.format("*")):
        try:
            snapshot = Snapshot.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            # Ended this moment, or written by another version.
            continue
        if _is_alive(snapshot):
            operations.append(snapshot)
        elif snapshot.host == socket.gethostname():
            with contextlib.suppress(OSError):
                path.unlink()
    return sorted(operations, key=lambda snapshot: snapshot.since)


def _is_alive(snapshot: Snapshot) -> bool:
    """Whether its process is alive, and is not a later one with the same number."""
    begun = proc.begun(snapshot.pid)
    slack = datetime.timedelta(seconds=1)
    return (
        snapshot.host == socket.gethostname()
        and begun is not None
        and begun < snapshot.at + slack
        and proc.is_alive(snapshot.pid)
    )


Shown = Callable[[], AbstractContextManager[Show]]


@contextlib.contextmanager
def nobody_looks() -> Iterator[Show]:
    """Show nothing: for operations whose command has no option for it."""
    yield show_nothing
