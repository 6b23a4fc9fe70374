"""What verifications found, beside each set: not in its manifest, which is sealed.

Where one cannot be read, nothing is known of its set.
"""

import contextlib
import datetime
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.errors import FileUnreadable
from tidstorage.system import clock, durable, json_file
from tidstorage.system.json_file import Shape

logger = logging.getLogger(__name__)

FILE_NAME = "verified.json"

#: How much is looked at; each depth includes those before it.
Depth = Literal["sizes", "digests", "objects"]
DEPTHS: tuple[Depth, ...] = ("sizes", "digests", "objects")


class Fault(Shape):
    """Something of the set is not what was written; it cannot be restored whole.

    path: the file, relative to the backup directory.  depth: what found it.
    """

    path: str
    what: str
    depth: Depth


class Verdict(Shape):
    """What is known of a set.

    good: {depth: when the first of its files was read for that}, of the depths at
    which nothing was wrong.  lost: what the data themselves lack (objects, blobs,
    targets of references), since a restore gives just what was there; None where
    nobody looked.
    """

    version: Literal[1] = 1
    good: dict[Depth, datetime.datetime] = {}
    faults: tuple[Fault, ...] = ()
    lost: int | None = None

    @property
    def depth(self) -> Depth | None:
        """How deeply it was verified, and found good."""
        return max(self.good, key=DEPTHS.index, default=None)


@dataclass(frozen=True, slots=True)
class Verification:
    """Of one verification of a set; the fields are those of `Verified`."""

    depth: Depth
    at: datetime.datetime
    faults: Sequence[Fault] = ()
    lost: int | None = None


def read(path: Path) -> Verdict | None:
    """The verdict in a file; None where there is none, or none that can be read."""
    if not path.exists():
        return None
    try:
        return json_file.read(path, Verdict, "the result of a verification", "")
    except FileUnreadable as error:
        logger.warning("counts as never verified: %s", error)
        return None


def write(path: Path, verdict: Verdict) -> None:
    """Keep the verdict, where the folder of its set is still there."""
    text = verdict.model_dump_json(indent=1) + "\n"
    with contextlib.suppress(FileNotFoundError):
        durable.replace_text(path, text)


def after(before: Verdict | None, outcome: Verification) -> Verdict:
    """What is known once a verification has ended.

    One that looks less deeply takes nothing back that a deeper one found.
    """
    former = before or Verdict()
    level = DEPTHS.index(outcome.depth)
    deeper = [each for each in former.faults if DEPTHS.index(each.depth) > level]
    faults = (*outcome.faults, *deeper)
    good = {
        depth: moment
        for depth, moment in former.good.items()
        if DEPTHS.index(depth) < min((DEPTHS.index(f.depth) for f in faults), default=9)
    }
    if not outcome.faults:
        good |= dict.fromkeys(DEPTHS[: level + 1], outcome.at)
    lost = former.lost if outcome.lost is None else outcome.lost
    return Verdict(good=good, faults=faults, lost=lost)


def outcome_with(known: Verdict, fault: Fault) -> Verification:
    """What a look as deep as the fault's would have found: that fault too."""
    others = [other for other in known.faults if other.path != fault.path]
    return Verification(fault.depth, clock.now(), (*others, fault))


def without_fault(known: Verdict, path: str, depth: Depth) -> Verdict:
    """The verdict without what is said of a file, at that depth or less deep."""
    deeper = DEPTHS[DEPTHS.index(depth) + 1 :]
    left = tuple(
        fault for fault in known.faults if fault.path != path or fault.depth in deeper
    )
    return known.model_copy(update={"faults": left})


def find_bad_files(known: Iterable[Verdict]) -> dict[str, str]:
    """{path: what is wrong with it}, of all sets together: files are shared."""
    return {fault.path: fault.what for verdict in known for fault in verdict.faults}
