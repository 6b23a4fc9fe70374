"""The time that a pack is given, and the TID that FileStorage makes of it.

Pure.  A pack removes what later transactions replaced, up to and with that TID.
FileStorage computes it from seconds as a float, which for the time of a TID gives
a TID beyond it about every second time: so the time is some way below, and what
comes of it is computed here as FileStorage does.
"""

import datetime
import time

from persistent.timestamp import TimeStamp

from tidstorage.coherence import tid

#: Seconds by which a time stays below that of the TID.
_STEP = 0.001


def stop_of(seconds: float) -> int:
    """The TID up to which ``FileStorage.pack(seconds)`` packs."""
    minute = time.gmtime(seconds)[:5]
    return tid.from_bytes(TimeStamp(*minute, seconds % 60).raw())


def seconds_below(kept: int, not_after: datetime.datetime) -> float:
    """The latest time to pack to, at most ``not_after``, that stays below a TID.

    kept: above 0; the transaction with that TID stays as it is.  In seconds since
    1970, as FileStorage and ZEO take it.
    """
    at_kept = TimeStamp(tid.to_bytes(kept)).timeTime()
    seconds = min(at_kept - _STEP, not_after.timestamp())
    step = _STEP
    while stop_of(seconds) >= kept:
        # Of a TID that stands for no time, like the 31st of February.
        seconds -= step
        step *= 2
    return seconds
