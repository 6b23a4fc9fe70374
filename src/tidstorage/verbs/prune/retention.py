"""Which sets are kept, by what is known of them; no I/O.

Only good sets count: those that are whole and that no verification found wanting.
One of which nobody knows whether it is whole counts for nothing, and is kept.
The newest full sets are kept with every set since the oldest of them; of older
ones the last of each day, week and month, so many of them as the description says.
A set that is kept keeps all its files, whichever sets they came with.
"""

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tidstorage.cluster.cluster import Retention


@dataclass(frozen=True, slots=True)
class Candidate:
    """A set as retention sees it.

    time: of its point, aware.  is_full: every storage was copied anew.  is_good:
    it can be restored, as far as is known.  is_unknown: nobody can tell if it can.
    """

    id: str
    time: datetime.datetime
    is_full: bool
    is_good: bool
    is_unknown: bool = False


def choose_kept(
    sets: Sequence[Candidate],
    retention: Retention,
    zone: datetime.tzinfo | None = None,
) -> dict[str, tuple[str, ...]]:
    """{id of each set to keep: why}, oldest first; all the others may go.

    zone: whose days count; None: this machine's.  Where no set is good, or fewer
    full ones are than are to be kept, none may go.
    """
    kept: dict[str, list[str]] = {}
    # An id is the moment at which the set was begun.
    newest_first = sorted(sets, key=lambda candidate: candidate.id, reverse=True)
    for candidate, reason in _reasons(newest_first, retention, zone):
        kept.setdefault(candidate.id, []).append(reason)
    return {set_id: tuple(kept[set_id]) for set_id in sorted(kept)}


def _reasons(
    sets: Sequence[Candidate], retention: Retention, zone: datetime.tzinfo | None
) -> Iterator[tuple[Candidate, str]]:
    """(set, why it is kept) for every reason to keep one; sets: newest first."""
    for candidate in sets:
        if candidate.is_unknown:
            yield candidate, "not known to be good or bad"
    good = [candidate for candidate in sets if candidate.is_good]
    full = [candidate for candidate in good if candidate.is_full]
    if good:
        yield good[0], "newest good"
    for number, candidate in enumerate(full[: retention.keep_full], 1):
        yield candidate, f"full {number}"
    oldest = full[retention.keep_full - 1] if len(full) >= retention.keep_full else None
    for candidate in sets:
        if oldest is None:
            yield candidate, f"no {retention.keep_full} good full sets yet"
        elif candidate.id > oldest.id:
            yield candidate, f"since {oldest.id}"
    yield from _last_of_periods(good, retention, zone)


def _last_of_periods(
    good: Sequence[Candidate], retention: Retention, zone: datetime.tzinfo | None
) -> Iterator[tuple[Candidate, str]]:
    """The last set of each of the newest periods that have one; good: newest first."""
    for name, number, form in (
        ("day", retention.keep_daily, _day),
        ("week", retention.keep_weekly, _week),
        ("month", retention.keep_monthly, _month),
    ):
        seen: set[str] = set()
        for candidate in good:
            period = form(candidate.time.astimezone(zone))
            if period not in seen and len(seen) < number:
                seen.add(period)
                yield candidate, f"{name} {period}"


_Form = Callable[[datetime.datetime], str]
_day: _Form = "{:%Y-%m-%d}".format
_week: _Form = "{:%G-W%V}".format
_month: _Form = "{:%Y-%m}".format
