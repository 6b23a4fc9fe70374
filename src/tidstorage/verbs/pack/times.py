"""The time that a pack is given, and the TID that FileStorage makes of it.

A pack removes what later transactions replaced, up to and including that TID.
FileStorage computes it from seconds as a float.  For the time of a TID that gives
a TID beyond it about every second time.  So the time that is chosen here stays some
way below, and what comes of it is computed as FileStorage does.  There is no I/O.
"""

import datetime
import time

from persistent.timestamp import TimeStamp

from tidstorage.coherence import tid

#: Seconds by which a time stays below that of the TID.
_STEP = 0.001


def tid_packed_to(seconds: float) -> int:
    """The TID up to which, inclusive, ``FileStorage.pack(seconds)`` packs."""
    minute = time.gmtime(seconds)[:5]
    return tid.from_bytes(TimeStamp(*minute, seconds % 60).raw())


def seconds_below(kept: int, not_after: datetime.datetime) -> float:
    """The latest time to pack to, at most ``not_after``, that stays below a TID.

    In seconds since 1970, as FileStorage and ZEO take it.

    kept: the TID, above 0; the transaction with it stays as it is.
    """
    at_kept = TimeStamp(tid.to_bytes(kept)).timeTime()
    seconds: float = min(at_kept - _STEP, not_after.timestamp())
    step = _STEP
    # Tried, not trusted: one step is enough for the TID of any real time.
    while tid_packed_to(seconds) >= kept:
        # Of a TID that stands for no time, like the 31st of February.
        seconds -= step
        step *= 2
    return seconds
