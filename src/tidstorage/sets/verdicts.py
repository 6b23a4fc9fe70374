"""What verifications found of a set, kept in its folder.

It is not in the manifest, which never changes.  Where it cannot be read, the set
counts as never verified.
"""

import contextlib
import datetime
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.errors import FileUnreadable
from tidstorage.system import clock, json_file
from tidstorage.system.json_file import Shape

logger = logging.getLogger(__name__)

FILE_NAME = "verified.json"

#: How much is looked at; each depth includes those before it.
Depth = Literal["sizes", "digests", "objects"]
DEPTHS: tuple[Depth, ...] = ("sizes", "digests", "objects")


class Fault(Shape):
    """A file of a set is not what was written: the set cannot be restored whole.

    path: of the file, relative to the backup directory.  what: is wrong with it, in
    words.  depth: of the look that found it.
    """

    path: str
    what: str
    depth: Depth


class Verdict(Shape):
    """What all verifications of a set found together.

    good: {depth: when the first of the set's files was read for that}, of the depths
    at which nothing was wrong.  faults: what is wrong.  lost: how many objects,
    blobs and targets of references the data themselves lack; that is no fault, since
    a restore gives just what was there.  None where nobody looked.
    """

    version: Literal[1] = 1
    good: dict[Depth, datetime.datetime] = {}
    faults: tuple[Fault, ...] = ()
    lost: int | None = None

    @property
    def depth(self) -> Depth | None:
        """How deeply it was verified and found good; None where it never was."""
        return max(self.good, key=DEPTHS.index, default=None)


@dataclass(frozen=True, slots=True)
class Verification:
    """What one verification of a set found.

    depth: how deeply it looked.  at: when it read the first file.  faults, lost: as
    those of `Verdict`.
    """

    depth: Depth
    at: datetime.datetime
    faults: Sequence[Fault] = ()
    lost: int | None = None


def read(path: Path) -> Verdict | None:
    """The verdict in a file; None where there is none, and where it is unreadable."""
    if not path.exists():
        return None
    try:
        return json_file.read(path, Verdict, "the result of a verification", "")
    except FileUnreadable as error:
        logger.warning("counts as never verified: %s", error)
        return None


def write(path: Path, verdict: Verdict) -> None:
    """Keep the verdict in a file, where the folder of its set is still there."""
    with contextlib.suppress(FileNotFoundError):
        json_file.write(path, verdict)


def update(former: Verdict | None, verification: Verification) -> Verdict:
    """The verdict on a set once one more verification of it has ended.

    former: the verdict until now; None without one.
    """
    former = former or Verdict()
    level = DEPTHS.index(verification.depth)
    # What a deeper look found stands: this one could not have seen it.
    deeper = [fault for fault in former.faults if DEPTHS.index(fault.depth) > level]
    faults = (*verification.faults, *deeper)
    # At the depth of a fault, and at all deeper ones, the set is good no more.
    levels_of_faults = [DEPTHS.index(fault.depth) for fault in faults]
    good_below = min(levels_of_faults, default=len(DEPTHS))
    good = {
        depth: moment
        for depth, moment in former.good.items()
        if DEPTHS.index(depth) < good_below
    }
    if not verification.faults:
        good |= dict.fromkeys(DEPTHS[: level + 1], verification.at)
    lost = former.lost if verification.lost is None else verification.lost
    return Verdict(good=good, faults=faults, lost=lost)


def add_fault(verdict: Verdict, fault: Fault) -> Verdict:
    """The verdict once a look as deep as the fault's has found that fault too."""
    others = [other for other in verdict.faults if other.path != fault.path]
    return update(verdict, Verification(fault.depth, clock.now(), (*others, fault)))


def remove_fault(verdict: Verdict, path: str, depth: Depth) -> Verdict:
    """The verdict without the faults of a file that were found at most so deeply.

    path: of the file, relative to the backup directory.
    """
    deeper = DEPTHS[DEPTHS.index(depth) + 1 :]
    left = tuple(
        fault for fault in verdict.faults if fault.path != path or fault.depth in deeper
    )
    return verdict.model_copy(update={"faults": left})


def find_bad_files(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """{path: what is wrong with it}, of all sets together: they share files."""
    return {fault.path: fault.what for verdict in verdicts for fault in verdict.faults}
