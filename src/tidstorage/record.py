"""One transaction record, as the pure core takes it."""

from dataclasses import dataclass

from tidstorage.stamp import Stamp


@dataclass(frozen=True, slots=True)
class Record:
    """What one storage holds of one transaction.

    tid: int, of that storage.  stamp: None where the writer had no hook.
    """

    tid: int
    stamp: Stamp | None = None
