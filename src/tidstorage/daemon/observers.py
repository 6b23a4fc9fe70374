"""The observers of all storages, over one timeline.

Each observer works in a thread of its own.  What it tells is handed over to the event
loop here, and everything that follows from it happens there.  A timeline ends with its
observers: what they tell after `Observers.close` is ignored, and a new timeline gets
new ones.
"""

import asyncio
import contextlib
import datetime
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tidstorage.coherence import tid
from tidstorage.coherence.following import Coherence, Probe
from tidstorage.coherence.point import Point, Skew
from tidstorage.coherence.record import Record
from tidstorage.daemon.settings import Settings
from tidstorage.daemon.storage_observer import Callbacks, StorageObserver
from tidstorage.daemon.threads import hand_over
from tidstorage.daemon.writers import Writers
from tidstorage.system import clock

logger = logging.getLogger(__name__)


def _names_same(one: Point | None, other: Point, storage: str) -> bool:
    """Whether two points have the same TID of a storage."""
    return one is not None and one.vector.get(storage) == other.vector[storage]


class Observers:
    """Feeds a coherence with what the storages get after its first point.

    To be made, started, confirmed and closed in the event loop.

    coherence: gets all records; it is of these observers alone.
    writers: is told of records without a stamp.
    wake: is set whenever something has changed.
    followed: a point of this timeline whose TIDs are all of records.
    unconfirmed: ids of storages that have not shown yet that they hold the point.
    changed: why the timeline has ended, once a storage has shown that; else None.
    packed: {storage id: TID} up to which a pack may have taken what nobody saw, since
        somebody looked last.
    """

    def __init__(
        self,
        settings: Settings,
        first: Point,
        coherence: Coherence,
        writers: Writers,
        wake: asyncio.Event,
        followed: Point | None = None,
    ) -> None:
        self.coherence = coherence
        self.changed: str | None = None
        self.packed: dict[str, int] = {}
        self._writers = writers
        self._wake = wake
        self._closed = False
        since = (clock.now() - first.complete).total_seconds()
        #: Seconds of the monotonic clock up to which all of each storage was told, and
        #: (TID of the last record, up to when all was told before) of each lot.
        self._complete = dict.fromkeys(first.vector, time.monotonic() - since)
        self._lots: dict[str, deque[tuple[int, float]]] = {
            storage: deque() for storage in first.vector
        }
        self._skew: dict[str, Skew] = {}
        callbacks = Callbacks(
            confirmed=self._in_loop(self._on_confirmed),
            records=self._in_loop(self._on_records),
            complete=self._in_loop(self._on_complete),
            packed=self._in_loop(self._on_packed),
            ended=self._in_loop(self._on_end),
            probe=self._in_loop(self._on_probe),
            history_changed=self._in_loop(self._on_history_changed),
            room=coherence.room,
        )
        self._observers = {
            storage.id: StorageObserver(
                storage,
                settings.names,
                callbacks,
                first.vector[storage.id],
                # A barrier tells the TID that a server calls its last one; after a
                # kill that may be the TID of no record.
                is_record=first.source == "stamps"
                or _names_same(followed, first, storage.id),
            )
            for storage in settings.storages
        }
        self.unconfirmed = set(self._observers)
        #: Those that got a successor while they waited for an answer.
        self._left: list[StorageObserver] = []

    def _in_loop(self, handle: Callable[..., None]) -> Callable[..., None]:
        """What an observer calls in its thread, so that the loop calls ``handle``."""
        loop = asyncio.get_running_loop()

        def in_thread(*arguments: object) -> None:
            hand_over(loop, self._unless_closed, handle, *arguments)

        return in_thread

    def _unless_closed(self, handle: Callable[..., None], *arguments: object) -> None:
        if not self._closed:
            handle(*arguments)

    def start(self) -> None:
        """Begin to observe."""
        for observer in self._observers.values():
            self._start(observer)

    def _start(self, observer: StorageObserver) -> None:
        try:
            observer.start()
        except RuntimeError as error:
            # The system has no thread left: `watch` tries again.
            observer.unobserved_why = str(error)

    def watch(self, now: float, limit: float) -> list[StorageObserver]:
        """All observers, once those that are dead or stuck have got successors.

        now: seconds, monotonic.  limit: seconds for which one may wait for an answer.
        A server that never answers keeps the thread that asked it, but only one.
        """
        if self._closed or self.changed is not None:
            return []
        for storage, observer in self._observers.items():
            since = observer.working_since
            is_stuck = since is not None and now - since >= limit
            if observer.is_alive and (not is_stuck or storage in self._left_behind()):
                continue
            if is_stuck:
                self._left.append(observer)
                logger.warning(
                    "storage %s: its server has not answered for %.0f s; it is asked"
                    " over another connection",
                    storage,
                    limit,
                )
            observer.close()
            successor = observer.successor()
            if not is_stuck:
                successor.unobserved_since = observer.unobserved_since
                successor.unobserved_why = observer.unobserved_why
            self._observers[storage] = successor
            self._start(successor)
        return [*self._observers.values()]

    def _left_behind(self) -> set[str]:
        """Ids of the storages whose former observer still waits for an answer."""
        self._left = [observer for observer in self._left if observer.is_alive]
        return {observer.storage_id for observer in self._left}

    async def confirm(self, seconds: float) -> None:
        """Wait until all storages hold what the first point says, or one does not.

        After a restore it is a point of a lost timeline.  A server that does not
        answer contradicts nothing: after so many seconds this goes on as if it had
        gone down since.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.unconfirmed and self.changed is None:
                    await self._wake.wait()
                    self._wake.clear()
        if self.unconfirmed and self.changed is None:
            logger.warning(
                "going on, though no server tells whether storages still hold the"
                " last point: %s",
                ", ".join(sorted(self.unconfirmed)),
            )
        self.unconfirmed.clear()
        self._wake.set()

    def complete_until(self) -> datetime.datetime:
        """Up to when the coherence's vector has all that was acknowledged, in UTC."""
        moments = []
        for storage, last in self.coherence.vector.items():
            lots = self._lots[storage]
            while lots and lots[0][0] <= last:
                lots.popleft()
            # What waits was acknowledged after all was told that came before it.
            moments.append(lots[0][1] if lots else self._complete[storage])
        since = time.monotonic() - min(moments, default=time.monotonic())
        return clock.now() - datetime.timedelta(seconds=since)

    def notable_skew(self) -> dict[str, Skew]:
        """{storage id: of its server's clock}; nothing unless one is far from ours.

        By when records came: one to a few seconds wide, where a barrier measures in
        milliseconds.  It tells the points of a daemon whose clock is wrong.
        """
        if any(skew.is_notable for skew in self._skew.values()):
            return dict(self._skew)
        return {}

    def probe(self, storage: str, commit_ids: frozenset[bytes]) -> None:
        """Ask a storage's server whether it may still get these commits."""
        self._observers[storage].probe(commit_ids)

    def close(self) -> None:
        """Stop observing; does not wait for a server that does not answer."""
        self._closed = True
        for observer in self._observers.values():
            observer.close()

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """JSON: {storage id: whether its server answers, and its last TID seen}."""
        return {
            storage: {
                "connected": observer.connected,
                "last": tid.to_text(observer.last),
            }
            for storage, observer in self._observers.items()
        }

    # What observers tell; in the event loop.

    def _on_confirmed(self, storage: str) -> None:
        self.unconfirmed.discard(storage)
        self._wake.set()

    def _on_records(self, storage: str, records: Sequence[Record]) -> None:
        self.coherence.add(storage, records, time.monotonic())
        self._lots[storage].append((records[-1].tid, self._complete[storage]))
        self._skew[storage] = self._skew_of(storage, records)
        unstamped = [record.tid for record in records if record.stamp is None]
        if unstamped:
            self._writers.unstamped.add(storage, unstamped)
        self._wake.set()

    def _skew_of(self, storage: str, records: Sequence[Record]) -> Skew:
        """What new records tell: they were given between the last look and now."""
        now, since = clock.now(), time.monotonic() - self._complete[storage]
        first, last = (tid.to_time(records[end].tid) for end in (0, -1))
        least = (last - now).total_seconds()
        return Skew(least, max(least, (first - now).total_seconds() + since))

    def _on_complete(self, storage: str, moment: float) -> None:
        self._complete[storage] = moment

    def _on_packed(self, storage: str, last: int) -> None:
        if self.coherence.add_packed(storage, last):
            self.packed[storage] = last
            self._wake.set()

    def _on_end(self, storage: str, last: int) -> None:
        self.coherence.add_end(storage, last)
        self._wake.set()

    def _on_probe(self, answer: Probe) -> None:
        if self.coherence.answer(answer):
            self._wake.set()

    def _on_history_changed(self, storage: str, why: str) -> None:
        if self.changed is None:
            self.changed = f"storage {storage} was restored, or is another: {why}"
            self._wake.set()
