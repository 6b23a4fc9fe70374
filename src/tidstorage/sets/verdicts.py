"""What verifications found, beside each set: not in its manifest, which is sealed.

``sets/<set id>/verified.json``.  Where it cannot be read, nothing is known.
"""

import contextlib
import datetime
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.errors import FileUnreadable
from tidstorage.sets import layout, manifest
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


class Verified(Shape):
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
class Outcome:
    """Of one verification of a set; the fields are those of `Verified`."""

    depth: Depth
    at: datetime.datetime
    faults: Sequence[Fault] = ()
    lost: int | None = None


def _path(directory: Path, set_id: str) -> Path:
    return layout.sets(directory) / set_id / FILE_NAME


def read(directory: Path, set_id: str) -> Verified | None:
    """What is known of a set; None where it was never verified."""
    path = _path(directory, set_id)
    if not path.exists():
        return None
    try:
        return json_file.read(path, Verified, "the result of a verification", "")
    except FileUnreadable as error:
        logger.warning("counts as never verified: %s", error)
        return None


def after(before: Verified | None, outcome: Outcome) -> Verified:
    """What is known once a verification has ended.

    One that looks less deeply takes nothing back that a deeper one found.
    """
    former = before or Verified()
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
    return Verified(good=good, faults=faults, lost=lost)


def note(directory: Path, set_id: str, outcome: Outcome) -> None:
    """Keep what a verification found; nothing where the set is gone meanwhile."""
    folder = layout.sets(directory) / set_id
    # Between the two a prune may take it.
    if (folder / manifest.FILE_NAME).exists():
        _write(directory, set_id, after(read(directory, set_id), outcome))


def bad_files(known: Iterable[Verified]) -> dict[str, str]:
    """{path: what is wrong with it}, of all sets together: files are shared."""
    return {fault.path: fault.what for each in known for fault in each.faults}


def read_all(directory: Path) -> dict[str, Verified]:
    """{set id: what is known of it}, of all sets that were verified."""
    found = {
        path.parent.name: read(directory, path.parent.name)
        for path in layout.sets(directory).glob(f"*/{FILE_NAME}")
    }
    return {set_id: each for set_id, each in found.items() if each is not None}


def add(directory: Path, set_ids: Iterable[str], fault: Fault) -> None:
    """Something was found that all these sets need, whichever was looked at."""
    for set_id in set_ids:
        known = read(directory, set_id) or Verified()
        if fault not in known.faults:
            at = clock.now()
            others = [each for each in known.faults if each.path != fault.path]
            note(directory, set_id, Outcome(fault.depth, at, (*others, fault)))


def forget(directory: Path, path: str, depth: Depth) -> None:
    """A file that was bad is good again: no set has that fault any more.

    depth: how deeply it was looked at; what a deeper look found stays.
    """
    deeper = DEPTHS[DEPTHS.index(depth) + 1 :]
    for set_id, known in read_all(directory).items():
        left = tuple(
            each for each in known.faults if each.path != path or each.depth in deeper
        )
        if left != known.faults:
            changed = known.model_copy(update={"faults": left})
            _write(directory, set_id, changed)


def _write(directory: Path, set_id: str, found: Verified) -> None:
    text = found.model_dump_json(indent=1) + "\n"
    with contextlib.suppress(FileNotFoundError):
        durable.replace_text(_path(directory, set_id), text)
