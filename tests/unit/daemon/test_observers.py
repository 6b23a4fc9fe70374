"""What observers tell in their threads, and when it counts."""

import asyncio

from tidstorage.coherence.following import Coherence
from tidstorage.coherence.point import Point
from tidstorage.coherence.record import Record
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
