"""What verifications found of a set, kept in its folder.

It is not in the manifest, which never changes.  There are three verdicts on a file:
it was read and is good; it was read, or is surely not there, and is bad; or nobody
could read it.  The last is neither of the others: it takes no fault away, gives none,
and ends as soon as somebody has read the file.
"""

import contextlib
import datetime
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.errors import FileUnreadable, SetUnreadable
from tidstorage.system import clock, json_file, presence
from tidstorage.system.json_file import Shape

logger = logging.getLogger(__name__)

FILE_NAME = "verified.json"

#: How much is looked at; each depth includes those before it.
Depth = Literal["sizes", "digests", "objects"]
DEPTHS: tuple[Depth, ...] = ("sizes", "digests", "objects")
#: How the former version began to tell of a file that it could not read: as a fault.
_UNREAD_BEFORE = "cannot be read: "


class Fault(Shape):
    """A file of a set is not what was written: the set cannot be restored whole.

    path: of the file, relative to the backup directory.  what: is wrong with it, in
    words.  depth: of the look that found it.
    """

    path: str
    what: str
    depth: Depth


class Unread(Shape):
    """A file of a set could not be read, so that nobody knows what it holds.

    Fields as of `Fault`; what: the system said.
    """

    path: str
    what: str
    depth: Depth


class Verdict(Shape):
    """What all verifications of a set found together.

    good: {depth: when the first of the set's files was read for that}, of the depths
    at which nothing was wrong.  faults: what is wrong.  unread: what could not be read
    the last time, and was not read since.  lost: how many objects,
    blobs and targets of references the data themselves lack; that is no fault, since
    a restore gives just what was there.  None where nobody looked.
    """

    version: Literal[1] = 1
    good: dict[Depth, datetime.datetime] = {}
    faults: tuple[Fault, ...] = ()
    lost: int | None = None
    unread: tuple[Unread, ...] = ()

    @property
    def depth(self) -> Depth | None:
        """How deeply it was verified and found good; None where it never was."""
        return max(self.good, key=DEPTHS.index, default=None)


@dataclass(frozen=True, slots=True)
class Verification:
    """What one verification of a set found.

    depth: how deeply it looked.  at: when it read the first file.  faults, lost,
    unread: as those of `Verdict`.
    """

    depth: Depth
    at: datetime.datetime
    faults: Sequence[Fault] = ()
    lost: int | None = None
    unread: Sequence[Unread] = ()


def read(path: Path) -> Verdict | None:
    """The verdict in ``sets/<set id>/verified.json``; None where there is none.

    One that is broken tells nothing, neither good nor bad: a verification as deep as
    those that cron makes has to read the set anew.

    Raises: SetUnreadable: where it could not be read.
    """
    try:
        verdict = json_file.read(path, Verdict, "the result of a verification", "")
    except FileUnreadable as error:
        if isinstance(error.__cause__, presence.ABSENT):
            return None
        if isinstance(error.__cause__, OSError):
            raise SetUnreadable(str(error)) from error.__cause__
        logger.warning("what verifications found of a set is not known: %s", error)
        relative = "/".join(path.parts[-3:])
        what = "is broken: what verifications found is not known"
        return Verdict(unread=(Unread(path=relative, what=what, depth="digests"),))
    return _with_unread_of_before(verdict)


def _with_unread_of_before(verdict: Verdict) -> Verdict:
    """The verdict without the faults that the former version made of failed reads."""
    failed = [fault for fault in verdict.faults if _was_unread(fault)]
    if not failed:
        return verdict
    proven = tuple(fault for fault in verdict.faults if fault not in failed)
    unread = tuple(Unread(**fault.model_dump()) for fault in failed)
    return verdict.model_copy(
        update={"faults": proven, "unread": (*verdict.unread, *unread)}
    )


def _was_unread(fault: Fault) -> bool:
    return fault.what.startswith(_UNREAD_BEFORE)


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
    # Where something could not be read, not all was looked at: whatever it did not
    # find again may still be so.  Else only what a deeper look found stands, which
    # this one could not have seen.
    is_whole_look = not verification.unread
    bad = {fault.path for fault in verification.faults}
    told = bad | {unread.path for unread in verification.unread}
    faults = (
        *verification.faults,
        *(
            fault
            for fault in former.faults
            if DEPTHS.index(fault.depth) > level
            or (not is_whole_look and fault.path not in bad)
        ),
    )
    unread = (
        *verification.unread,
        *(
            unread
            for unread in former.unread
            if unread.path not in told
            and (DEPTHS.index(unread.depth) > level or not is_whole_look)
        ),
    )
    # At the depth of a fault, and at all deeper ones, the set is good no more.
    levels_of_faults = [DEPTHS.index(fault.depth) for fault in faults]
    good_below = min(levels_of_faults, default=len(DEPTHS))
    good = {
        depth: moment
        for depth, moment in former.good.items()
        if DEPTHS.index(depth) < good_below
    }
    if not verification.faults and is_whole_look:
        good |= dict.fromkeys(DEPTHS[: level + 1], verification.at)
    lost = former.lost if verification.lost is None else verification.lost
    return Verdict(good=good, faults=faults, lost=lost, unread=unread)


def add_fault(verdict: Verdict, fault: Fault) -> Verdict:
    """The verdict once a look as deep as the fault's has found that fault too."""
    others = [other for other in verdict.faults if other.path != fault.path]
    unread = [other for other in verdict.unread if other.path != fault.path]
    return update(
        verdict,
        Verification(fault.depth, clock.now(), (*others, fault), unread=unread),
    )


def add_unread(verdict: Verdict, unread: Unread) -> Verdict:
    """The verdict once somebody tried to read that file and could not."""
    others = [other for other in verdict.unread if other.path != unread.path]
    return verdict.model_copy(update={"unread": (*others, unread)})


def remove_file(verdict: Verdict, path: str, depth: Depth) -> Verdict:
    """The verdict once a file was read so deeply and is good.

    path: of the file, relative to the backup directory.  What a deeper look found
    of it stays.
    """
    deeper = DEPTHS[DEPTHS.index(depth) + 1 :]

    def stays(found: Fault | Unread) -> bool:
        return found.path != path or found.depth in deeper

    faults = tuple(filter(stays, verdict.faults))
    unread = tuple(filter(stays, verdict.unread))
    return verdict.model_copy(update={"faults": faults, "unread": unread})


def find_bad_files(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """{path: what is wrong with it}, of all sets together: they share files."""
    return {fault.path: fault.what for verdict in verdicts for fault in verdict.faults}


def find_unread_files(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """{path: what the system said} of files that could not be read, of all sets."""
    return {
        unread.path: unread.what for verdict in verdicts for unread in verdict.unread
    }
