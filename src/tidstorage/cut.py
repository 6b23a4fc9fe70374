"""Coherent cuts of a set of storages: the pure function everything rests on.

No I/O here.  The daemon calls it with live records, restore with the tails of
files, check with whole files.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidstorage.stamp import Stamp
from tidstorage.tid import Vector


@dataclass(frozen=True, slots=True)
class Record:
    """What one storage holds of one transaction.

    tid: int, of that storage.  stamp: None where the writer had no hook.
    """

    tid: int
    stamp: Stamp | None = None
