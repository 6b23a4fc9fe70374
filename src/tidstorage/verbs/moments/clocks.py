"""What is to be thought of clocks around a moment: of the servers', and of ours.

A moment is asked for by our clock, the points' one; TIDs are by that of a server.  At
each barrier the two were compared.  Around a moment the nearest barriers on both sides
count.  Where they agree, the servers' clocks are set right by what they measured.

Where they do not, a clock was set in between.  A server whose clock was set back gives
TIDs one after the other without a time between until it is as late again; one whose
clock was set forward leaves a gap.  That tells which TIDs are of before and of after.
What may be of either is kept: nothing that was acknowledged is lost, and the clocks of
the other storages tell what of that came too late.

Where all servers changed alike, and their TIDs do not show it, it was our clock that
was wrong at one of the two barriers: then the clocks are believed that agree with each
other.  A point of the other barrier is taken for no earlier, and for complete no
longer, than both say.
"""

import datetime
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tidstorage.coherence import tid
from tidstorage.coherence.point import TOLERATED, Point, Skew

#: Seconds that a server takes at most, as a rule, from a lock to its answer.  Where an
#: answer came late, the vote had waited for the lock, and not for the answer.
_ANSWER = 0.001
_NONE = Skew(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The servers' clocks around a moment, as of the nearest barriers on both sides.

    before, after: {storage id: skew}; nothing where there was no barrier.
    """

    before: Mapping[str, Skew] = field(default_factory=dict)
    after: Mapping[str, Skew] = field(default_factory=dict)

    def last_by(
        self, moment: datetime.datetime, given: Mapping[str, Sequence[int]]
    ) -> dict[str, int]:
        """{storage id: the last TID that it may have given by then}.

        given: {storage id: TIDs that it gave around that moment, in their order}.
        """
        were_set = {storage for storage in given if self._was_set(storage)}
        if self.changed_alike and not self._is_seen(given, were_set):
            were_set = set()
        return {
            storage: (
                self._last_where_set(storage, moment, tids)
                if storage in were_set
                else _last_at(moment, self._ahead(storage))
            )
            for storage, tids in given.items()
        }

    def _last_where_set(
        self, storage: str, moment: datetime.datetime, tids: Sequence[int]
    ) -> int:
        """The last one of a storage whose clock was set between the two barriers."""
        before, after = map(_seconds, self._skews(storage))
        turn = self._turn(storage, tids)
        last = _last_at(moment, max(before, after))
        if turn is None:
            return last
        of_before = bisect_right(tids, _last_at(moment, before), 0, turn)
        if of_before < turn:
            return tids[of_before] - 1
        of_after = bisect_right(tids, _last_at(moment, after), turn)
        return tids[of_after] - 1 if of_after < len(tids) else last

    def _turn(self, storage: str, tids: Sequence[int]) -> int | None:
        """Where in its TIDs the clock was set: how many are of before, or may be.

        Where it was set forward that is how many are of before for sure: what may be of
        either counts as the earlier one of both.  None: they do not show it.
        """
        before, after = map(_seconds, self._skews(storage))
        steps = enumerate(pairwise(tids), 1)
        if after < before:
            # Each was made later than the one before it, since the clock was not.
            stuck = [at for at, (one, two) in steps if two == one + 1]
            return stuck[-1] + 1 if stuck else None
        gap = after - before - TOLERATED
        return next((at for at, (one, two) in steps if _elapsed(one, two) > gap), None)

    def _is_seen(
        self, given: Mapping[str, Sequence[int]], were_set: Collection[str]
    ) -> bool:
        """Whether the TIDs of servers show that their clocks were set.

        A clock that was set back shows wherever one wrote meanwhile.  A gap may also be
        of a storage that nobody wrote to: all have to have one.
        """
        turns = {
            storage: self._turn(storage, given[storage]) is not None
            for storage in were_set
            if len(given[storage]) > 1
        }
        if any(
            self.after[storage].most < self.before[storage].least for storage in turns
        ):
            return any(turns.values())
        return bool(turns) and all(turns.values())

    def earliest_complete(self, point: Point) -> datetime.datetime:
        """Up to when a point has all that was acknowledged, whichever clock is right.

        The one of whoever took it, or those of the servers.
        """
        return point.complete + datetime.timedelta(seconds=min(self._change(point), 0))

    def latest(self, point: Point) -> datetime.datetime:
        """When all in a point was committed, whichever clock is right."""
        return point.time + datetime.timedelta(seconds=max(self._change(point), 0))

    @property
    def doubt(self) -> float:
        """Seconds by which the moment may be missed, as far as clocks are the cause."""
        return max(map(self._doubt, self.before.keys() | self.after.keys()), default=0)

    @property
    def common(self) -> float:
        """Seconds by which all servers are ahead of us; 0 unless all are, or behind."""
        return _common(map(self._ahead, self.before.keys() | self.after.keys()))

    def _skews(self, storage: str) -> list[Skew]:
        both = self.before.get(storage), self.after.get(storage)
        return [skew for skew in both if skew is not None]

    def _ahead(self, storage: str) -> float:
        """Seconds by which a server's clock is taken to be ahead of ours."""
        skews = self._skews(storage)
        if len(skews) < 2 or not self._was_set(storage):
            return _seconds(_joined(skews))
        both = [*map(_seconds, skews)]
        if self.changed_alike:
            return min(both, key=abs)
        return max(both)

    def _was_set(self, storage: str) -> bool:
        """Whether a clock was set between the two barriers."""
        skews = self._skews(storage)
        return len(skews) == 2 and _distance(*skews) > TOLERATED

    @property
    def changed_alike(self) -> bool:
        """Whether the clocks of all servers were set, in one direction."""
        changes = (
            _seconds(self.after[storage]) - _seconds(self.before[storage])
            for storage in self.before.keys() & self.after.keys()
        )
        return _common(changes) != 0

    def _change(self, point: Point) -> float:
        """By how many seconds all servers were ahead when a point was taken.

        That is more than they are taken to be around the moment; 0 where they differ
        among each other: then it is not our clock that was wrong.
        """
        known = self.before.keys() | self.after.keys()
        # Those that were not set meanwhile tell more.
        steady = {storage for storage in known if not self._was_set(storage)}
        known = steady & point.skew.keys() or known
        return _common(
            _seconds(skew) - self._ahead(storage)
            for storage, skew in point.skew.items()
            if storage in known
        )

    def _doubt(self, storage: str) -> float:
        skews = self._skews(storage)
        return max(skew.most for skew in skews) - min(skew.least for skew in skews)


def find_doubt(
    points: Sequence[Point], begin: datetime.datetime, end: datetime.datetime
) -> float:
    """Seconds by which a moment of a stretch of time may be missed, for its clocks.

    points: barriers of its timeline that measured them, in the order of their times.
    """
    first = bisect_right(points, begin, key=lambda point: point.time)
    last = bisect_left(points, end, key=lambda point: point.time)
    around = [point.skew for point in points[max(first - 1, 0) : last + 1]]
    return max(
        (
            max(clocks.doubt, abs(clocks.common))
            for clocks in map(Clocks, around, around[1:] or around)
        ),
        default=0.0,
    )


def _last_at(moment: datetime.datetime, ahead: float) -> int:
    """The last TID of a clock that is so many seconds ahead of ours."""
    return tid.last_at(moment + datetime.timedelta(seconds=ahead))


def _elapsed(one: int, two: int) -> float:
    """Seconds between two TIDs of one storage."""
    return (tid.to_time(two) - tid.to_time(one)).total_seconds()


def _common(seconds: Iterable[float]) -> float:
    """The least that all have, of one sign; 0 where not all are more than tolerated."""
    values = [*seconds]
    if values and min(values) > TOLERATED:
        return min(values)
    if values and max(values) < -TOLERATED:
        return max(values)
    return 0.0


def _seconds(skew: Skew) -> float:
    """The likeliest of those it may be; none where it may be that."""
    if skew.least <= 0 <= skew.most:
        return 0.0
    return skew.least + min((skew.most - skew.least) / 2, _ANSWER)


def _distance(one: Skew, other: Skew) -> float:
    """Seconds between the two; 0 where both may be the same."""
    return max(0.0, one.least - other.most, other.least - one.most)


def _joined(skews: list[Skew]) -> Skew:
    """What all say, or, where they do not quite agree, all that any of them says."""
    if not skews:
        return _NONE
    least = max(skew.least for skew in skews)
    most = min(skew.most for skew in skews)
    return Skew(min(least, most), max(least, most))
