"""What observers tell in their threads, and when it counts."""

import asyncio
import datetime
import time

from tidstorage.coherence import tid
from tidstorage.coherence.following import Coherence
from tidstorage.coherence.point import Point
from tidstorage.coherence.record import Record
from tidstorage.coherence.stamp import Stamp
from tidstorage.daemon.observers import Observers
from tidstorage.daemon.settings import ObservedStorage, Settings
from tidstorage.daemon.writers import Writers
from tidstorage.system.clock import now


def test_what_observers_tell_after_their_timeline_has_ended_is_ignored():
    settings = Settings(storages=(ObservedStorage("a", "nowhere", "a"),))
    writers = Writers(())

    def tell(observers: Observers, last: int) -> None:
        callbacks = observers._observers["a"]._callbacks
        for callback, argument in (
            (callbacks.records, [Record(last, None)]),
            (callbacks.ended, last),
            (callbacks.history_changed, "the test says so"),
        ):
            callback("a", argument)

    async def work() -> None:
        first = Point({"a": 1}, now(), "barrier")
        observers = Observers(
            settings, first, Coherence(first.vector), writers, asyncio.Event()
        )
        # Observers work in threads, and the loop hears of it a little later.
        await asyncio.to_thread(tell, observers, 2)
        await asyncio.sleep(0)
        assert writers.unstamped.counted["a"].count == 1
        assert observers.changed is not None
        observers.changed = None
        observers.close()
        await asyncio.to_thread(tell, observers, 3)
        await asyncio.sleep(0)
        assert writers.unstamped.counted["a"].count == 1
        assert observers.changed is None

    asyncio.run(work())


def test_up_to_when_a_point_is_complete():
    """What waits was acknowledged after the look before the one that showed it."""
    began = time.monotonic()
    begin = now()

    def after(seconds: float) -> datetime.datetime:
        return begin + datetime.timedelta(seconds=seconds)

    def record(seconds: float, commit_id: bytes) -> Record:
        stamp = Stamp(commit_id * 16, frozenset("ab"), {})
        return Record(tid.last_at(after(seconds)), stamp)

    def is_complete_until(observers: Observers, seconds: float) -> bool:
        found = (observers.complete_until() - begin).total_seconds()
        return abs(found - seconds) < 1

    async def work() -> None:
        storages = tuple(ObservedStorage(each, "nowhere", each) for each in "ab")
        first = Point({"a": 1, "b": 1}, begin, "barrier", complete_until=after(-100))
        coherence = Coherence(first.vector)
        observers = Observers(
            *(Settings(storages=storages), first, coherence, Writers(())),
            asyncio.Event(),
        )
        callbacks = observers._observers["a"]._callbacks

        async def tell(callback, *arguments) -> None:
            await asyncio.to_thread(callback, *arguments)
            await asyncio.sleep(0)

        assert is_complete_until(observers, -100)
        await tell(callbacks.complete, "a", began - 50)
        assert is_complete_until(observers, -100)
        await tell(callbacks.complete, "b", began - 40)
        assert is_complete_until(observers, -50)
        # It lacks its record on b, and waits for it.
        await tell(callbacks.records, "a", [record(-30, b"1")])
        await tell(callbacks.complete, "a", began - 20)
        assert coherence.advance() is None
        assert is_complete_until(observers, -50)
        await tell(callbacks.records, "b", [record(-30, b"1")])
        await tell(callbacks.complete, "b", began - 10)
        assert coherence.advance() is not None
        assert is_complete_until(observers, -20)
        # They came within seconds, which is all that can be told of the clocks.
        assert observers.notable_skew() == {}
        await tell(callbacks.records, "b", [record(600, b"2")])
        assert observers.notable_skew()["b"].is_notable
        observers.close()

    asyncio.run(work())
