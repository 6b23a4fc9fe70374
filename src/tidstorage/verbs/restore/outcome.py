"""What comes of a restore: one type for each way that it can end.

`Restored` over the cluster's own files, `RestoredElsewhere`, or `Ended` where a
restore that was interrupted amid its swap was only brought to its end.  Of a plan
that is shown: `Preview`, or `ToBeEnded`.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.coherence.point import Point
from tidstorage.verbs.moments.goal import Goal
from tidstorage.verbs.restore.cutting import Cut
from tidstorage.verbs.restore.effort import Effort


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """set_id: of the set that is restored.  point: beside the files afterwards."""

    set_id: str
    point: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class OfSet(Outcome):
    """What a set was, or would be, restored to.

    as_of: the moment whose state it is, in UTC; None where only the restore itself
    can tell.  renamed: {id in the set: present id} of storages that had another
    name then.  goal: what was asked for instead of the set's own point.  cut: None
    where only the restore itself can find it.  passed_over: why newer sets were not
    taken, in words.
    """

    as_of: datetime.datetime | None
    renamed: Mapping[str, str]
    goal: Goal | None
    cut: Cut | None
    passed_over: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored(OfSet):
    """The cluster's own files were replaced, or cut.

    sizes: {storage id: (bytes in the set, bytes kept)}.  last_tids: {storage id: TID
    of the last transaction kept}.  kept: what is appended to the names of the old
    files; None where there was nothing to keep.  reused: ids of storages whose files
    were cut where they lie; dropped: what is appended to the names of what was cut
    off.
    """

    sizes: Mapping[str, tuple[int, int]]
    last_tids: Mapping[str, int]
    kept: str | None
    reused: frozenset[str]
    dropped: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredElsewhere(OfSet):
    """The files are in a folder of their own; fields as of `Restored`."""

    directory: Path
    sizes: Mapping[str, tuple[int, int]]
    last_tids: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Outcome):
    """A swap that had been interrupted was brought to its end; kept: as `Restored`."""

    kept: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview(OfSet):
    """What a restore would do; nothing was changed.

    sizes: {storage id: bytes in the set}.  reused: ids of storages whose files seem
    to be as they have to be.  effort: what it would take.
    """

    sizes: Mapping[str, int]
    reused: frozenset[str]
    effort: Effort


@dataclass(frozen=True, slots=True, kw_only=True)
class ToBeEnded(Outcome):
    """A restore would only bring an interrupted swap to its end."""
