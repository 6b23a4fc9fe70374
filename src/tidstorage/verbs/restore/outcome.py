"""What comes of a restore: one type for each way that it can end.

`Restored` over the cluster's own files, `RestoredElsewhere`, or `Ended` where a
restore that was interrupted amid its swap was only brought to its end.  Of a plan
that is shown: `Preview`, or `ToBeEnded`.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.coherence.point import Point
from tidstorage.sets.blob_losses import list_missing
from tidstorage.verbs.moments.goal import Goal
from tidstorage.verbs.restore import plan
from tidstorage.verbs.restore.cutting import Cut
from tidstorage.verbs.restore.effort import Effort
from tidstorage.verbs.restore.plan import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class OfSet:
    """What a set was, or would be, restored to.

    chosen: the set, and what was asked for.  point: beside the files afterwards.
    cut: None where only the restore itself can find it.
    """

    chosen: Choice
    point: Point
    cut: Cut | None

    @property
    def set_id(self) -> str:
        return self.chosen.manifest.id

    @property
    def goal(self) -> Goal | None:
        """What was asked for instead of the set's own point."""
        return self.chosen.goal

    @property
    def as_of(self) -> datetime.datetime | None:
        """The moment whose state it is, in UTC; None where the restore has to tell."""
        if self.goal is None:
            return plan.as_of(self.chosen.manifest, self.chosen.policy)
        if self.cut is None:
            return None
        return self.cut.left_out.since if self.cut.left_out else self.goal.moment

    @property
    def renamed(self) -> Mapping[str, str]:
        """{id in the set: present id} of storages that had another name then."""
        return self.chosen.renamed

    @property
    def missing_blobs(self) -> Mapping[str, Sequence[str]]:
        """{storage id: paths of blobs that its data need and nobody has}."""
        return {
            storage.id: missing
            for storage in self.chosen.manifest.storages
            if self.chosen.storages is None or storage.id in self.chosen.storages
            if (missing := list_missing(storage, self._last_of(storage.id)))
        }

    @property
    def lost_blobs(self) -> Mapping[str, int]:
        """{storage id: how many blobs the set had from earlier ones only}."""
        return {
            storage.id: len(storage.lost_blobs)
            for storage in self.chosen.manifest.storages
            if self.chosen.storages is None or storage.id in self.chosen.storages
            if storage.lost_blobs
        }

    def _last_of(self, storage_id: str) -> int | None:
        return None if self.cut is None else self.cut.vector[storage_id]

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Why newer sets were not taken, in words."""
        return self.chosen.passed_over


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
class Preview(OfSet):
    """What a restore would do; nothing was changed.

    sizes: {storage id: bytes in the set}.  reused: ids of storages whose files seem
    to be as they have to be.  effort: what it would take.
    """

    sizes: Mapping[str, int]
    reused: frozenset[str]
    effort: Effort


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A swap that had been interrupted was brought to its end.

    set_id: of the set that is restored by that.  point: beside the files now.  kept:
    as of `Restored`.
    """

    set_id: str
    point: Point
    kept: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToBeEnded:
    """A restore would only end an interrupted swap; fields as of `Ended`."""

    set_id: str
    point: Point


Outcome = Restored | RestoredElsewhere | Preview | Ended | ToBeEnded
