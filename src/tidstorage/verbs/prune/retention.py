"""Which sets are kept: pure, over what is known of them.

Only good sets count: those that are whole and that no verification found wanting.
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
    it can be restored, as far as is known.
    """

    id: str
    time: datetime.datetime
    is_full: bool
    is_good: bool


def choose(
    found: Sequence[Candidate],
    retention: Retention,
    zone: datetime.tzinfo | None = None,
) -> dict[str, tuple[str, ...]]:
    """{id of each set to keep: why}, oldest first; all the others may go.

    zone: whose days count; None: this machine's.  Where no set is good, or fewer
    full ones are than are to be kept, none may go.
    """
    kept: dict[str, list[str]] = {}
    newest_first = sorted(found, key=lambda each: each.id, reverse=True)
    for each, reason in _reasons(newest_first, retention, zone):
        kept.setdefault(each.id, []).append(reason)
    return {each: tuple(kept[each]) for each in sorted(kept)}


def _reasons(
    found: Sequence[Candidate], retention: Retention, zone: datetime.tzinfo | None
) -> Iterator[tuple[Candidate, str]]:
    good = [each for each in found if each.is_good]
    full = [each for each in good if each.is_full]
    if good:
        yield good[0], "newest good"
    for number, each in enumerate(full[: retention.keep_full], 1):
        yield each, f"full {number}"
    oldest = full[retention.keep_full - 1] if len(full) >= retention.keep_full else None
    for each in found:
        if oldest is None:
            yield each, f"no {retention.keep_full} good full sets yet"
        elif each.id > oldest.id:
            yield each, f"since {oldest.id}"
    for each, reason in _periods(good, retention, zone):
        yield each, reason


def _periods(
    good: Sequence[Candidate], retention: Retention, zone: datetime.tzinfo | None
) -> Iterator[tuple[Candidate, str]]:
    """The last set of each of the newest periods that have one."""
    for name, number, form in (
        ("day", retention.keep_daily, _day),
        ("week", retention.keep_weekly, _week),
        ("month", retention.keep_monthly, _month),
    ):
        seen: set[str] = set()
        for each in good:
            period = form(each.time.astimezone(zone))
            if period not in seen and len(seen) < number:
                seen.add(period)
                yield each, f"{name} {period}"


_Form = Callable[[datetime.datetime], str]
_day: _Form = "{:%Y-%m-%d}".format
_week: _Form = "{:%G-W%V}".format
_month: _Form = "{:%Y-%m}".format
