"""What a journal says on the whole, read once: who needs it, asks this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tidstorage.coherence.point import Point
from tidstorage.points import journal
from tidstorage.points.entries import (
    Acknowledgement,
    Damage,
    Floor,
    Published,
    Struck,
    Timeline,
    WireDamage,
)


@dataclass(frozen=True, slots=True)
class JournalSummary:
    """All that a journal tells of a cluster's past, but for its older points.

    damages, acknowledgements: {commit id: the first entry about that half commit}.
    struck: {commit id: the last entry} of what was called one and proved to be whole;
        neither `damages` nor `last` names it.
    wire_damages, floors: oldest first.
    last: the last point or floor; None where there is none, or where a timeline
        began after it.
    timeline: the highest number that anything in it has; 0 where nothing has one.
    """

    damages: Mapping[bytes, Damage]
    acknowledgements: Mapping[bytes, Acknowledgement]
    wire_damages: Sequence[WireDamage]
    floors: Sequence[Floor]
    last: Point | None
    timeline: int
    struck: Mapping[bytes, Struck] = field(default_factory=dict)

    def last_of(self, timeline: int) -> Point | None:
        """The last point, unless the files were replaced since it was published.

        timeline: the highest that is known anywhere.
        """
        if self.last is None or self.last.timeline < timeline:
            return None
        return self.last


def summarise(path: Path) -> JournalSummary:
    """What the journal at ``path`` says; of one that is not there yet: nothing.

    Raises: FileUnreadable: where it cannot be read, or an entry is broken.
    """
    damages: dict[bytes, Damage] = {}
    acknowledgements: dict[bytes, Acknowledgement] = {}
    wire_damages: list[WireDamage] = []
    floors: list[Floor] = []
    struck: dict[bytes, Struck] = {}
    last: Point | None = None
    timeline = 0
    for entry in journal.read_but_old_points(path):
        match entry:
            case Damage(half_commit=half):
                damages.setdefault(half.commit_id, entry)
                # Seen to be torn again, after that.
                struck.pop(half.commit_id, None)
            case Struck(commit_id=commit_id):
                damages.pop(commit_id, None)
                struck[commit_id] = entry
            case Acknowledgement(commit_id=commit_id):
                acknowledgements.setdefault(commit_id, entry)
            case WireDamage():
                wire_damages.append(entry)
            case Timeline(number=number):
                last = None
                timeline = max(timeline, number)
            case Published(point) | Floor(point=point):
                last = point
                timeline = max(timeline, point.timeline)
                if isinstance(entry, Floor):
                    floors.append(entry)
    if last is not None and struck:
        left = tuple(half for half in last.damage if half.commit_id not in struck)
        last = replace(last, damage=left)
    return JournalSummary(
        damages, acknowledgements, wire_damages, floors, last, timeline, struck
    )
