"""Transaction ids: 8 bytes in ZODB, an int here, ``0x`` and 16 digits in JSON.

A TID is a time with a resolution of 60/2**32 s, except where a storage had to
make it later to keep the order.  TIDs of different storages have no common
meaning and are never compared with each other.
"""

import datetime
import re
from collections.abc import Mapping

from persistent.timestamp import TimeStamp

#: {storage id: TID as int}; as a cut: the last TID kept, inclusive.
Vector = Mapping[str, int]

#: The last one that 8 bytes can hold: whoever goes up to it goes to the end.
LAST = (1 << 64) - 1

_TID = re.compile(r"0x[0-9a-fA-F]{16}")


def from_bytes(tid: bytes) -> int:
    """The int for ZODB's 8 bytes."""
    return int.from_bytes(tid, "big")


def to_bytes(tid: int) -> bytes:
    """ZODB's 8 bytes for the int."""
    return tid.to_bytes(8, "big")


def to_text(tid: int) -> str:
    """``"0x"`` and 16 hex digits, as everything written has it."""
    return f"0x{tid:016x}"


def from_text(text: str) -> int:
    """The int for ``"0x…"`` with 16 digits.

    Raises: ValueError: where the text is anything else.
    """
    if not isinstance(text, str) or not _TID.fullmatch(text):
        raise ValueError(f"not a TID (0x and 16 hex digits): {text!r}")
    return int(text, 16)


def vector_to_text(vector: Vector) -> dict[str, str]:
    """A vector as JSON has it, sorted by storage id."""
    return {storage: to_text(vector[storage]) for storage in sorted(vector)}


def vector_from_text(data: Mapping[str, str]) -> dict[str, int]:
    """A vector from JSON.

    Raises: ValueError: where a TID in it is none.
    """
    return {storage: from_text(text) for storage, text in data.items()}


def last_at(moment: datetime.datetime) -> int:
    """The last TID that stands for this moment or one before; of any zone."""
    at = moment.astimezone(datetime.UTC)
    days = ((at.year - 1900) * 12 + at.month - 1) * 31 + at.day - 1
    minutes = (days * 24 + at.hour) * 60 + at.minute
    # What is left of the minute counts in steps of 60 / 2 ** 32 seconds; all of
    # those that lie within the microsecond belong to it.
    microseconds = at.second * 1_000_000 + at.microsecond + 1
    return (minutes << 32) + (microseconds << 32) // 60_000_000 - 1


def to_time(tid: int) -> datetime.datetime:
    """The moment a TID stands for, in UTC; the epoch of ZODB is 1900."""
    stamp = TimeStamp(to_bytes(tid))
    return datetime.datetime.fromtimestamp(stamp.timeTime(), datetime.UTC)
