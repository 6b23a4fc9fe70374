"""What a server tells of transactions: entries of its undo log, and extensions.

An entry is the extension's keys with a few of its own in between, which win; a key of
the extension wins nowhere but where the log has none.
"""

import binascii
import functools
from collections.abc import Mapping
from typing import Any

from tidstorage.coherence import stamp, tid


class NoTid(Exception):
    """An extension has a key of its own where the TID should be."""


def read_tid(entry: Mapping[str, Any]) -> int:
    """The TID of an entry.

    Raises: NoTid: where it does not tell.
    """
    identifier = entry["id"]
    try:
        number = binascii.a2b_base64(identifier)
    except (binascii.Error, TypeError, ValueError):
        raise NoTid from None
    if len(number) != 8:
        raise NoTid
    return tid.from_bytes(number)


def read_stamp(extension: Any, aliases: Mapping[str, str]) -> stamp.Stamp | None:
    """The stamp in an entry, or in an extension; None without a sound one.

    aliases: {other name of a storage in stamps: its id}.
    """
    data = extension.get(stamp.KEY) if isinstance(extension, Mapping) else None
    if not isinstance(data, bytes):
        return None
    try:
        return stamp.rename(_decoded(data), aliases)
    except stamp.MalformedStamp:
        return None


# All records of a transaction have the same stamp, and are asked for close together.
_decoded = functools.lru_cache(maxsize=1024)(stamp.decode)
