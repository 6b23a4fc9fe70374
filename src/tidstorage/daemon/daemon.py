"""The daemon itself: puts its parts together, and runs until it is told to end."""

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tidstorage.coherence.messages import InDoubt, WireCoherency
from tidstorage.coherence.point import Point
from tidstorage.daemon import resuming
from tidstorage.daemon.recorder import Recorder
from tidstorage.daemon.resuming import LastRun
from tidstorage.daemon.server import Answers, Connection
from tidstorage.daemon.settings import Settings
from tidstorage.daemon.writers import Writers
from tidstorage.points import journal
from tidstorage.points import tid_log as tidlog
from tidstorage.points.entries import Entry, WireDamage
from tidstorage.system import clock

if TYPE_CHECKING:
    from tidstorage.daemon.publishing import PointPublisher

logger = logging.getLogger(__name__)

HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
#: Seconds between two looks for transactions that never end.
_EXPIRY_SECONDS = 1.0
#: Of points that are alike the journal has one in so many burst periods.
_JOURNAL_BURSTS = 60


class Daemon:
    """To be made before the process goes into the background, and run after that."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        tid_log = None
        published: dict[str, int] = {}
        if settings.tid_log is not None:
            tid_log = tidlog.Writer(
                settings.tid_log, settings.full_dump_period, settings.burst_period
            )
            published = tidlog.read_last(settings.tid_log)
        last_run = resuming.read_last_run(settings)
        log = None if settings.journal is None else journal.Journal(settings.journal)
        self._recorder = Recorder(tid_log, log, _JOURNAL_BURSTS * settings.burst_period)
        self._observed: Point | None = None
        self._publisher: PointPublisher | None = None
        self._writers = Writers(settings.zopes, settings.storages, last_run.writers)
        observed = {storage.id for storage in settings.storages}
        if observed:
            self._publisher = _make_publisher(
                settings,
                last_run,
                self._on_point,
                self._recorder.note,
                self._writers,
            )
        self._published = published
        self._recorded_timeline = last_run.recorded_timeline
        self._wire = WireCoherency(
            observed,
            settings.transaction_timeout,
            {
                storage: last
                for storage, last in published.items()
                if storage not in observed | settings.retired
            },
            self._on_torn,
            settings.names,
        )
        self._answers = Answers(
            self._wire, self._vector, self._on_messages, self._writers, self._state
        )
        self._recorded_version = self._wire.version
        self._end = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until TERM or INT."""
        _allow_many_connections()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end.set)
        loop.add_signal_handler(signal.SIGINT, self._end.set)
        loop.add_signal_handler(signal.SIGHUP, self._reopen)
        loop.add_signal_handler(signal.SIGUSR1, self._log_state)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        recording = loop.create_task(self._recorder.run())
        expiring = loop.create_task(self._expire())
        server = await loop.create_server(
            lambda: Connection(self._answers), sock=self._listener
        )
        logger.info(
            "ready on %s as process %d; published: %d storages",
            self._listener.getsockname()[:2],
            os.getpid(),
            len(self._wire.visible),
        )
        ended = loop.create_task(self._end.wait())
        working = {recording, expiring}
        if self._publisher is not None:
            working.add(loop.create_task(self._publisher.run()))
        # A part that ends by itself is a defect: better no daemon than half of one.
        await asyncio.wait({ended, *working}, return_when=asyncio.FIRST_COMPLETED)
        server.close()
        for connection in list(self._answers.connections):
            connection.close()
        for task in working:
            if task.done():
                task.result()
            task.cancel()
        self._note_writers(ending=True)
        await self._recorder.close()
        logger.info("ended")

    def _vector(self) -> dict[str, int]:
        observed = {} if self._observed is None else self._observed.vector
        return {**self._wire.visible, **observed}

    def _point(self) -> Point:
        observed = self._observed
        if observed is None:
            return Point(self._vector(), clock.now(), "wire", verified=False)
        wire_only = bool(self._wire.visible)
        return replace(
            observed,
            vector=self._vector(),
            time=clock.now() if wire_only else observed.time,
            verified=observed.verified and not wire_only,
        )

    def _on_messages(self) -> None:
        if self._wire.version != self._recorded_version:
            self._recorded_version = self._wire.version
            self._publish()

    def _on_point(self, observed: Point | None) -> None:
        if observed is None:
            # Nobody shall take what was lost for what there is.
            self._observed = None
            self._wire.bootstrapped = False
            self._answers.changed()
            return
        before = self._published if self._observed is None else self._observed.vector
        # New commits may have passed the TIDs of a timeline that a restore ended.
        other_timeline = self._recorded_timeline not in (0, observed.timeline)
        if other_timeline or any(
            last < before.get(storage, 0) for storage, last in observed.vector.items()
        ):
            self._recorder.set_aside(observed.timeline)
        self._recorded_timeline = observed.timeline
        self._observed = observed
        self._wire.bootstrapped = True
        self._publish()

    def _publish(self) -> None:
        self._answers.changed()
        self._recorder.publish(self._point())

    def _on_torn(self, torn: InDoubt) -> None:
        logger.warning(
            "transaction %s on %s may be torn: %s",
            torn.transaction_id,
            ", ".join(torn.storages),
            torn.reason,
        )
        self._recorder.note(
            WireDamage(
                clock.now(), torn.transaction_id, torn.storages, torn.tids, torn.reason
            )
        )

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_SECONDS)
            self._wire.expire(time.monotonic())
            self._on_messages()
            self._writers.unstamped.find_writers()
            self._note_writers()

    def _note_writers(self, *, ending: bool = False) -> None:
        entry = self._writers.take_entry(time.monotonic(), ending=ending)
        if entry is not None:
            self._recorder.note(entry)

    def _reopen(self) -> None:
        # The server log's handler follows the file at its path by itself.
        logger.info("reopening")

        async def reopen() -> None:
            await self._recorder.reopen(self._point())
            self._writers.begin_journal()

        task = asyncio.get_running_loop().create_task(reopen())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _state(self) -> dict[str, Any]:
        return {
            "connections": len(self._answers.connections),
            "observed": self._publisher and self._publisher.state,
            "wire": self._wire.state,
            "coverage": {
                **self._writers.state,
                "lost_timeline": (
                    self._publisher.lost_timeline if self._publisher else []
                ),
            },
        }

    def _log_state(self) -> None:
        logger.info("state: %s", json.dumps(self._state(), default=str))


def _make_publisher(
    settings: Settings,
    last_run: LastRun,
    on_point: Callable[[Point | None], None],
    note: Callable[[Entry], None],
    writers: Writers,
) -> "PointPublisher":
    # A daemon that observes nothing needs no ZEO.
    from tidstorage.daemon.publishing import PointPublisher

    return PointPublisher(settings, last_run, on_point, note, writers)


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
