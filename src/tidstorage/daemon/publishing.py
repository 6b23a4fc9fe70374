"""From a first coherent vector to one point after another, over all timelines.

Runs in the daemon's event loop.  Where the vector comes from stands in `resuming` and
`bootstrapping`, who looks at the storages in `observers`, what is said aloud in
`alarms`.  What is coherent is decided by `tidstorage.coherence.following` alone.
"""

import asyncio
import contextlib
import datetime
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tidstorage.coherence import tid
from tidstorage.coherence.following import Advance, Coherence
from tidstorage.coherence.point import Point, Source
from tidstorage.daemon import resuming
from tidstorage.daemon.alarms import Alarms
from tidstorage.daemon.bootstrapping import take_barrier, take_first_barrier
from tidstorage.daemon.observers import Observers
from tidstorage.daemon.resuming import LastRun
from tidstorage.daemon.sealing import Doubts
from tidstorage.daemon.settings import Settings
from tidstorage.daemon.waiting import Waiting, find_alarms
from tidstorage.daemon.writers import Writers
from tidstorage.errors import BarrierFailed
from tidstorage.points.entries import (
    Acknowledgement,
    Damage,
    Entry,
    Floor,
    Struck,
    Timeline,
)
from tidstorage.system import clock

logger = logging.getLogger(__name__)

#: Seconds between looks at what waits too long, and at acknowledgements.
_TICK = 0.25
#: Seconds from the first news to the computation, so that all storages are heard: at
#: least, and as a multiple of the last one's length: records that wait for a server
#: that is down must not cost everything.
_SHORTEST_PAUSE = 0.02
_PAUSE_FACTOR = 5
#: Seconds that a seal may take before an alarm is told all the same.
_SEALING_SECONDS = 10.0
#: Seconds between two barriers that are taken to verify what others wrote.
_VERIFY_PERIOD = 300.0


class PointPublisher:
    """Publishes points for as long as it runs.

    on_point: gets each point, and None where there is none any more, since the
        timeline of the last one has ended.
    note: gets everything else for the journal.
    writers: is told of records without a stamp, and asked who made a commit.
    """

    def __init__(
        self,
        settings: Settings,
        last_run: LastRun,
        on_point: Callable[[Point | None], None],
        note: Callable[[Entry], None],
        writers: Writers,
    ) -> None:
        self._settings = settings
        self._on_point = on_point
        self._note = note
        self._writers = writers
        self._alarms = Alarms(writers)
        self._timeline = last_run.timeline
        #: Whether files were put back, and no point is known that they still hold.
        self._is_blind = False
        self._doubts = self._make_doubts(last_run.timeline_begun)
        #: Where to go on, instead of beginning with a barrier.
        self._resume_at: Point | None = last_run.point
        self._followed = last_run.followed
        self._acknowledged = set(last_run.acknowledged)
        self._others = resuming.EntriesOfOthers(settings.journal, last_run.journal_read)
        self._observers: Observers | None = None
        self._wake = asyncio.Event()
        self._last_barrier = time.monotonic()
        self._waiting = Waiting()

    @property
    def lost_timeline(self) -> list[dict[str, Any]]:
        """JSON: the commits of processes that write from a lost timeline."""
        return self._alarms.lost_timeline

    @property
    def state(self) -> dict[str, object]:
        """JSON, for people."""
        observers = self._observers
        if observers is None or observers.unconfirmed:
            unconfirmed = set() if observers is None else observers.unconfirmed
            return {
                "bootstrapped": False,
                "not confirmed": sorted(unconfirmed),
                "alarms": self._waiting.in_words,
            }
        coherence = observers.coherence
        return {
            "bootstrapped": True,
            "timeline": self._timeline,
            "point": tid.vector_to_text(coherence.vector),
            "verified": coherence.verified,
            "age": round(coherence.age(time.monotonic()), 3),
            "waiting": coherence.waiting(),
            "lost timeline": self.lost_timeline,
            "alarms": self._waiting.in_words,
            "storages": observers.state,
        }

    async def run(self) -> None:
        """Observe until cancelled."""
        try:
            while True:
                first = await self._find_first_point()
                observers = self._observers = self._make_observers(first)
                observers.start()
                await observers.confirm(self._settings.resume_timeout)
                if observers.changed is None:
                    damage = observers.coherence.standing().damage
                    self._on_point(replace(first, damage=damage))
                await self._follow(observers)
        finally:
            if self._observers is not None:
                self._observers.close()

    def _make_doubts(self, begun: datetime.datetime | None) -> Doubts:
        storages = {storage.id: storage for storage in self._settings.storages}
        return Doubts(storages, begun)

    # The first point of a run, and of a timeline

    async def _find_first_point(self) -> Point:
        if self._resume_at is not None:
            first, self._resume_at = self._resume_at, None
            logger.info("going on from the point %s, if it still holds", first.id)
            return first
        held = await take_first_barrier(self._settings.storages)
        self._last_barrier = time.monotonic()
        logger.info("bootstrap: %s", tid.vector_to_text(held.vector))
        first = held.point(self._timeline)
        if self._is_blind:
            # One file alone may have been put back: what the others hold is torn then,
            # and a barrier says nothing of that.
            first = replace(first, verified=False)
        return first

    def _make_observers(self, first: Point) -> Observers:
        self._alarms.begin_timeline()
        coherence = Coherence(
            first.vector,
            verified=first.verified,
            damage=first.damage,
            acknowledged=self._acknowledged,
            retired=self._settings.retired,
        )
        return Observers(
            self._settings,
            first,
            coherence,
            self._writers,
            self._wake,
            followed=self._followed,
        )

    # From point to point

    async def _follow(self, observers: Observers) -> None:
        """Publish until the history changes, or somebody has set a floor."""
        coherence = observers.coherence
        verifying: asyncio.Task[None] | None = None
        sealing: asyncio.Task[None] | None = None
        sealing_since = 0.0
        length = 0.0
        try:
            # A floor that turns up meanwhile is a point to go on from.
            while observers.changed is None and self._resume_at is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK):
                        await self._wake.wait()
                    await asyncio.sleep(max(_SHORTEST_PAUSE, _PAUSE_FACTOR * length))
                self._wake.clear()
                started = time.monotonic()
                if observers.packed and self._goes_on_above(observers):
                    break
                self._advance(coherence)
                self._ask_about_what_waits(observers, started)
                if sealing is None or sealing.done():
                    sealing = self._start_sealing(coherence)
                    sealing_since = started
                # Somebody may hold a vote there for long.
                if sealing is None or started - sealing_since > _SEALING_SECONDS:
                    self._alarms.tell_lost_timeline([*coherence.lost_timeline.values()])
                self._heed_others(coherence)
                self._watch(observers, started)
                if verifying is None or verifying.done():
                    verifying = self._start_verifying(coherence, started)
                length = time.monotonic() - started
        finally:
            for task in (verifying, sealing):
                if task is not None:
                    task.cancel()
        observers.close()
        self._observers = None
        if observers.changed is not None:
            self._begin_timeline(observers.changed, coherence)
            self._resume_at = resuming.point_beside(self._settings, self._timeline)
            if self._resume_at is None:
                held = resuming.find_held(self._settings, self._timeline)
                self._resume_at, self._is_blind = held, held is None

    def _goes_on_above(self, observers: Observers) -> bool:
        """Whether a point is there that covers what a pack may have taken unseen.

        A pack of ours leaves one beside the files.  After one by others there is none.
        """
        packed, observers.packed = observers.packed, {}
        vector = observers.coherence.vector
        beside = resuming.point_beside(self._settings, self._timeline)
        if (
            beside is not None
            and all(beside.vector[storage] >= last for storage, last in vector.items())
            and all(beside.vector[storage] >= last for storage, last in packed.items())
        ):
            damage = observers.coherence.standing().damage
            self._resume_at = replace(
                beside, time=clock.now(), damage=(*beside.damage, *damage)
            )
            return True
        for storage, last in packed.items():
            logger.warning(
                "storage %s: what it held up to %s may have been packed away before it"
                " was seen; whether transactions there are whole, nobody can tell",
                storage,
                tid.to_text(last),
            )
        return False

    def _advance(self, coherence: Coherence) -> None:
        advance = coherence.advance()
        self._alarms.tell_unknown(coherence.unknown)
        if advance is not None:
            self._publish(advance, "stamps")

    def _publish(self, advance: Advance, source: Source) -> None:
        for half in advance.new_damage:
            self._alarms.tell_half_commit(half)
            proof = "its place on what it lacks was given up, or taken by another"
            self._note(Damage(clock.now(), half, proof))
        self._alarms.tell_unknown_outcomes(advance.unknown)
        observers = self._observers
        assert observers is not None
        self._on_point(
            Point(
                advance.vector,
                clock.now(),
                source,
                self._timeline,
                advance.verified,
                advance.damage,
                observers.complete_until(),
                observers.notable_skew(),
            )
        )

    def _watch(self, observers: Observers, now: float) -> None:
        """Say what waits too long, and give those that read another chance."""
        limit = self._settings.alarm_after
        self._waiting.update(
            find_alarms(now, limit, observers.coherence, observers.watch(now, limit))
        )

    def _ask_about_what_waits(self, observers: Observers, now: float) -> None:
        for storage, commit_ids in observers.coherence.questions(now).items():
            observers.probe(storage, commit_ids)

    def _heed_others(self, coherence: Coherence) -> None:
        """Do what others have written into the journal while this runs."""
        for entry in self._others.read_new():
            match entry:
                case Acknowledgement(commit_id=commit_id, by=by):
                    self._accept(coherence, commit_id, by)
                case Struck(commit_id=commit_id, reason=reason):
                    self._strike_out(coherence, commit_id, reason)
                case Floor(point=floor, reason=reason):
                    self._rebase(coherence, floor, reason)

    def _accept(self, coherence: Coherence, commit_id: bytes, by: str) -> None:
        self._acknowledged.add(commit_id)
        if coherence.acknowledge(commit_id):
            logger.info("half commit %s was accepted by %s", commit_id.hex(), by)
            self._publish(coherence.standing(), "stamps")

    def _strike_out(self, coherence: Coherence, commit_id: bytes, reason: str) -> None:
        self._acknowledged.add(commit_id)
        if coherence.strike_out(commit_id):
            logger.info("commit %s is no half commit: %s", commit_id.hex(), reason)
            self._publish(coherence.standing(), "stamps")

    def _rebase(self, coherence: Coherence, floor: Point, reason: str) -> None:
        """Go on from a floor that somebody has set, unless that is a step back."""
        before, after = coherence.vector, floor.vector
        if floor.timeline < self._timeline:
            logger.warning(
                "the floor %s is of a timeline that has ended, and is passed over",
                floor.id,
            )
        elif all(
            after.get(storage, 0) >= last for storage, last in before.items()
        ) and (
            any(after[storage] > last for storage, last in before.items())
            or (floor.verified and not coherence.verified)
        ):
            logger.warning("going on from the floor %s: %s", floor.id, reason)
            # Published later than what was published since: times never go back.
            again = replace(floor, time=clock.now())
            self._resume_at = resuming.of_storages(again, self._settings.storages)
            self._wake.set()

    def _start_verifying(
        self, coherence: Coherence, now: float
    ) -> "asyncio.Task[None] | None":
        """Take a barrier where unstamped writers left points unverified."""
        if coherence.verified or now - self._last_barrier < _VERIFY_PERIOD:
            return None
        self._last_barrier = now
        return asyncio.get_running_loop().create_task(self._verify(coherence))

    def _start_sealing(self, coherence: Coherence) -> "asyncio.Task[None] | None":
        """Seal ends that are in doubt and can be sealed."""
        doubted = self._doubts.find_new(coherence)
        if not doubted:
            return None
        loop = asyncio.get_running_loop()
        return loop.create_task(self._doubts.seal(coherence, doubted))

    async def _verify(self, coherence: Coherence) -> None:
        try:
            held = await take_barrier(self._settings.storages)
            coherence.take_barrier(held.vector)
        except BarrierFailed as error:
            logger.warning("points stay unverified: %s", error)
        self._wake.set()

    def _begin_timeline(self, why: str, coherence: Coherence) -> None:
        beside = resuming.timeline_beside(self._settings.storages)
        self._timeline = max(self._timeline + 1, beside)
        self._doubts = self._make_doubts(clock.now())
        self._followed = None
        logger.critical("a new timeline, number %d: %s", self._timeline, why)
        self._on_point(None)
        self._note(Timeline(clock.now(), self._timeline, dict(coherence.vector), why))
