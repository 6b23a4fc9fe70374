"""All observers together: from a first coherent vector to one point after another.

Runs in the daemon's event loop; what observers report in their threads is handed
over to it.  The daemon never writes to a storage: barriers are held by a process
of their own.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tidstorage.coherence import tid
from tidstorage.coherence.following import Advance, Coherence, LostTimeline, Probe
from tidstorage.coherence.point import Point, Source
from tidstorage.coherence.record import Record
from tidstorage.daemon import resuming
from tidstorage.daemon.observer import Reports, StorageObserver
from tidstorage.daemon.resuming import LastRun
from tidstorage.daemon.settings import Settings
from tidstorage.daemon.threads import hand_over, in_thread
from tidstorage.daemon.writers import Writers
from tidstorage.errors import BarrierFailed
from tidstorage.points.entries import Acknowledgement, Damage, Entry, Floor, Timeline
from tidstorage.system import clock
from tidstorage.zeo import barrier
from tidstorage.zeo.barrier import BarrierStorage

logger = logging.getLogger(__name__)

#: Seconds between looks at what waits too long, and at acknowledgements.
_TICK = 0.25
#: Seconds from the first news to the computation, so that all storages are heard: at
#: least, and as a multiple of the last one's length: records that wait for a server
#: that is down must not cost everything.
_SHORTEST_PAUSE = 0.02
_PAUSE_FACTOR = 5
#: Seconds between attempts at a barrier: first and longest pause.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
#: Seconds between two barriers that are taken to verify what others wrote.
_VERIFY_PERIOD = 300.0


class Observation:
    """on_point: gets each point, and None where there is none any more, since the
    timeline of the last one has ended; note: gets everything else for the journal.

    coverage: is told of records without a stamp, and asked whose a commit is.
    """

    def __init__(
        self,
        settings: Settings,
        former: LastRun,
        on_point: Callable[[Point | None], None],
        note: Callable[[Entry], None],
        coverage: Writers,
    ) -> None:
        self._settings = settings
        self._on_point = on_point
        self._note = note
        self._coverage = coverage
        self._ids = {each.name: each.id for each in settings.storages}
        self._aliases = settings.names
        self._timeline = former.timeline
        self._former: Point | None = former.point
        self._acknowledged = set(former.acknowledged)
        self._others = resuming.EntriesOfOthers(settings.journal, former.journal_read)
        self._coherence: Coherence | None = None
        self._observers: dict[str, StorageObserver] = {}
        self._unconfirmed: set[str] = set()
        self._changed: str | None = None
        self._wake = asyncio.Event()
        #: Of writers from a lost timeline, while they hold up the point.
        self.alarms: list[dict[str, Any]] = []
        self._said_unknown = ""
        self._last_barrier = time.monotonic()

    @property
    def state(self) -> dict[str, object]:
        """For people."""
        coherence = self._coherence
        if coherence is None or self._unconfirmed:
            return {"bootstrapped": False, "not confirmed": sorted(self._unconfirmed)}
        return {
            "bootstrapped": True,
            "timeline": self._timeline,
            "point": tid.vector_to_text(coherence.vector),
            "verified": coherence.verified,
            "age": round(coherence.age(time.monotonic()), 3),
            "waiting": coherence.waiting(),
            "lost timeline": self.alarms,
            "storages": {
                each.storage.id: {
                    "connected": each.connected,
                    "last": tid.to_text(each.last),
                }
                for each in self._observers.values()
            },
        }

    async def run(self) -> None:
        """Observe until cancelled."""
        try:
            while True:
                first = await self._first_point()
                self._start(first)
                await self._confirm()
                if self._changed is None and self._coherence is not None:
                    damage = self._coherence.standing().damage
                    self._on_point(replace(first, damage=damage))
                await self._follow()
        finally:
            self._stop_observers()

    # The first point of a run, and of a timeline

    async def _first_point(self) -> Point:
        if self._former is not None:
            former, self._former = self._former, None
            logger.info("going on from the point %s, if it still holds", former.id)
            return former
        vector = await self._barrier()
        first = Point(vector, clock.now(), "barrier", self._timeline)
        logger.info("bootstrap: %s", tid.vector_to_text(vector))
        return first

    async def _barrier(self) -> dict[str, int]:
        pause = _FIRST_PAUSE
        said = ""
        while True:
            try:
                vector = await in_thread(self._take_barrier)
            except BarrierFailed as error:
                if str(error) != said:
                    said = str(error)
                    logger.warning("no bootstrap yet: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._last_barrier = time.monotonic()
                return vector

    def _take_barrier(self) -> dict[str, int]:
        vector = barrier.take(
            [
                BarrierStorage(each.name, each.address)
                for each in self._settings.storages
            ]
        )
        return {self._ids[name]: last for name, last in vector.items()}

    def _start(self, first: Point) -> None:
        loop = asyncio.get_running_loop()
        self._changed = None
        self.alarms = []
        self._coherence = coherence = Coherence(
            first.vector,
            verified=first.verified,
            damage=first.damage,
            acknowledged=self._acknowledged,
            retired=self._settings.retired,
        )

        # An observer of a former timeline may still have something to report.
        def confirmed(storage: str) -> None:
            hand_over(loop, self._on_confirmed, coherence, storage)

        def records(storage: str, seen: Sequence[Record]) -> None:
            hand_over(loop, self._on_records, coherence, storage, seen)

        def ended(storage: str, last: int) -> None:
            hand_over(loop, self._on_end, coherence, storage, last)

        def probe(answer: Probe) -> None:
            hand_over(loop, self._on_probe, coherence, answer)

        def changed(storage: str, why: str) -> None:
            hand_over(loop, self._on_history_changed, coherence, storage, why)

        reports = Reports(confirmed, records, ended, probe, changed, coherence.room)
        self._observers = {
            each.id: StorageObserver(
                each,
                self._aliases,
                reports,
                first.vector[each.id],
                is_record=first.source == "stamps",
            )
            for each in self._settings.storages
        }
        self._unconfirmed = set(self._observers)
        for observer in self._observers.values():
            observer.start()

    async def _confirm(self) -> None:
        """Wait until all storages hold what the first point says, or one does not.

        After a restore it is a point of a lost timeline.  A server that does not
        answer contradicts nothing: after a while it is as if it had gone down since.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.resume_timeout):
                while self._unconfirmed and self._changed is None:
                    await self._wake.wait()
                    self._wake.clear()
        if self._unconfirmed and self._changed is None:
            logger.warning(
                "going on, though no server tells whether storages still hold the"
                " last point: %s",
                ", ".join(sorted(self._unconfirmed)),
            )
        self._unconfirmed.clear()
        self._wake.set()

    def _stop_observers(self) -> None:
        for observer in self._observers.values():
            observer.close()

    # What observers report

    def _on_confirmed(self, coherence: Coherence, storage: str) -> None:
        if coherence is self._coherence:
            self._unconfirmed.discard(storage)
            self._wake.set()

    def _on_records(
        self, coherence: Coherence, storage: str, seen: Sequence[Record]
    ) -> None:
        if coherence is self._coherence:
            coherence.add(storage, seen, time.monotonic())
            unstamped = [each.tid for each in seen if each.stamp is None]
            if unstamped:
                self._coverage.unstamped.seen(storage, unstamped)
            self._wake.set()

    def _on_end(self, coherence: Coherence, storage: str, last: int) -> None:
        if coherence is self._coherence:
            coherence.add_end(storage, last)
            self._wake.set()

    def _on_probe(self, coherence: Coherence, answer: Probe) -> None:
        if coherence is self._coherence and coherence.answer(answer):
            self._wake.set()

    def _on_history_changed(self, coherence: Coherence, storage: str, why: str) -> None:
        if coherence is self._coherence and self._changed is None:
            self._changed = f"storage {storage} was restored, or is another: {why}"
            self._wake.set()

    # From point to point

    async def _follow(self) -> None:
        """Publish until the history changes."""
        assert self._coherence is not None
        coherence = self._coherence
        verifying: asyncio.Task[None] | None = None
        length = 0.0
        try:
            # A former point that turns up meanwhile is a floor to go on from.
            while self._changed is None and self._former is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK):
                        await self._wake.wait()
                    await asyncio.sleep(max(_SHORTEST_PAUSE, _PAUSE_FACTOR * length))
                self._wake.clear()
                started = time.monotonic()
                self._advance(coherence)
                self._look_around(coherence, started)
                if verifying is None or verifying.done():
                    verifying = self._verify(coherence, started)
                length = time.monotonic() - started
        finally:
            if verifying is not None:
                verifying.cancel()
        self._stop_observers()
        self._coherence = None
        if self._changed is not None:
            self._begin_timeline(self._changed, coherence)
            self._former = resuming.point_beside(self._settings, self._timeline)

    def _advance(self, coherence: Coherence) -> None:
        advance = coherence.advance()
        if coherence.unknown and coherence.unknown != self._said_unknown:
            logger.error("points are unverified: %s", coherence.unknown)
        self._said_unknown = coherence.unknown
        if advance is not None:
            self._publish(advance, "stamps")

    def _publish(self, advance: Advance, source: Source) -> None:
        for half in advance.new_damage:
            logger.error(
                "half commit %s: on %s, and never on %s",
                half.commit_id.hex(),
                ", ".join(sorted(half.present)),
                ", ".join(half.missing),
            )
            proof = "its place on what it lacks was given up, or taken by another"
            self._note(Damage(clock.now(), half, proof))
        self._on_point(
            Point(
                advance.vector,
                clock.now(),
                source,
                self._timeline,
                advance.verified,
                advance.damage,
            )
        )

    def _look_around(self, coherence: Coherence, now: float) -> None:
        for storage, commit_ids in coherence.questions(now).items():
            self._observers[storage].probe(commit_ids)
        for lost in [*coherence.lost_timeline.values()][len(self.alarms) :]:
            self._alarm(lost)
        for entry in self._others.new():
            match entry:
                case Acknowledgement(commit_id=commit_id, by=by):
                    self._accept(coherence, commit_id, by)
                case Floor(point=floor, reason=reason):
                    self._rebase(coherence, floor, reason)

    def _alarm(self, lost: LostTimeline) -> None:
        process = self._coverage.writer(lost.commit_id)
        if process is None:
            writer = "a process that has not told its name"
        else:
            name = process.name or "a process without a name"
            writer = f"{name} (process {process.pid} on {process.host})"
        self.alarms.append(
            {
                "commit": lost.commit_id.hex(),
                "storage": lost.storage,
                "tid": tid.to_text(lost.tid),
                "writer": writer,
                "process": process and process._asdict(),
            }
        )
        logger.critical(
            "%s writes what it knows of a lost timeline: commit %s, record %s of"
            " storage %s, had seen %s of storage %s, whose last one is %s; nothing past"
            " it is published.  Stop every Zope, then bin/cluster rebase",
            writer,
            lost.commit_id.hex(),
            tid.to_text(lost.tid),
            lost.storage,
            tid.to_text(lost.bound - 1),
            lost.seen,
            tid.to_text(lost.last),
        )

    def _accept(self, coherence: Coherence, commit_id: bytes, by: str) -> None:
        self._acknowledged.add(commit_id)
        if coherence.acknowledge(commit_id):
            logger.info("half commit %s was accepted by %s", commit_id.hex(), by)
            self._publish(coherence.standing(), "stamps")

    def _rebase(self, coherence: Coherence, floor: Point, reason: str) -> None:
        """Go on from a floor that somebody set, unless that is a step back."""
        before, after = coherence.vector, floor.vector
        if floor.timeline < self._timeline:
            logger.warning("the floor %s is of a timeline that has ended", floor.id)
        elif all(after.get(each, 0) >= last for each, last in before.items()) and (
            any(after[each] > last for each, last in before.items())
            or (floor.verified and not coherence.verified)
        ):
            logger.warning("going on from the floor %s: %s", floor.id, reason)
            # Published later than what was published since: times never go back.
            again = replace(floor, time=clock.now())
            self._former = resuming.of_storages(again, self._settings.storages)
            self._wake.set()

    def _verify(self, coherence: Coherence, now: float) -> "asyncio.Task[None] | None":
        """Take a barrier where unstamped writers left points unverified."""
        if coherence.verified or now - self._last_barrier < _VERIFY_PERIOD:
            return None
        self._last_barrier = now
        return asyncio.get_running_loop().create_task(self._verified(coherence))

    async def _verified(self, coherence: Coherence) -> None:
        try:
            coherence.take_barrier(await in_thread(self._take_barrier))
        except BarrierFailed as error:
            logger.warning("points stay unverified: %s", error)
        self._wake.set()

    def _begin_timeline(self, why: str, coherence: Coherence) -> None:
        beside = resuming.timeline_beside(self._settings.storages)
        self._timeline = max(self._timeline + 1, beside)
        logger.critical("a new timeline, number %d: %s", self._timeline, why)
        self._on_point(None)
        self._note(Timeline(clock.now(), self._timeline, dict(coherence.vector), why))
