"""Barriers that the daemon takes: for its first point, and to verify later ones.

A daemon that knows of no earlier point begins with a barrier's vector: it is a
coherent cut, whoever wrote the records below it.  The votes are held by a process of
its own (`tidstorage.zeo.barrier`): the daemon itself never writes to a storage.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from tidstorage.daemon.settings import ObservedStorage
from tidstorage.daemon.threads import run_in_thread
from tidstorage.errors import BarrierFailed
from tidstorage.zeo import barrier
from tidstorage.zeo.barrier import BarrierStorage, Instant

logger = logging.getLogger(__name__)

#: Seconds between attempts at a first barrier: first and longest pause.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0


async def take_barrier(storages: Sequence[ObservedStorage]) -> Instant:
    """All storages, by their ids, at one instant; the event loop goes on meanwhile.

    Raises: BarrierFailed: where a server is down, or stays locked for too long.
    """
    ids = {storage.name: storage.id for storage in storages}
    held = [BarrierStorage(storage.name, storage.address) for storage in storages]
    instant = await run_in_thread(lambda: barrier.take_instant(held))
    return replace(
        instant,
        ends={ids[name]: end for name, end in instant.ends.items()},
        skew={ids[name]: skew for name, skew in instant.skew.items()},
    )


async def take_first_barrier(storages: Sequence[ObservedStorage]) -> Instant:
    """All storages at one instant, as soon as a barrier succeeds, however late.

    Each new reason for a failure is logged once.
    """
    pause = _FIRST_PAUSE
    logged = ""
    while True:
        try:
            return await take_barrier(storages)
        except BarrierFailed as error:
            if str(error) != logged:
                logged = str(error)
                logger.warning("no bootstrap yet: %s", error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
