"""Times as an operator reads and writes them: local, in the cluster's time zone.

Everything stored is UTC; nothing but what is shown or typed passes through here.
"""

import datetime
import zoneinfo

from tidstorage.errors import WrongTime

#: What commands show times in; None: the machine's own.
_zone: zoneinfo.ZoneInfo | None = None
_EXAMPLE = 'A time looks like "2026-11-22 14:05", or 2026-11-22T14:05:30+01:00.'


def use(name: str | None) -> None:
    """Set the time zone in which times are shown and read; None: the machine's."""
    global _zone
    _zone = None if name is None else zoneinfo.ZoneInfo(name)


def local(moment: datetime.datetime) -> str:
    """A moment in the time zone of the cluster, without the zone's name."""
    return f"{moment.astimezone(_zone):%Y-%m-%d %H:%M:%S}"


def in_both(moment: datetime.datetime) -> str:
    """A moment in the time zone of the cluster, with its name, and in UTC."""
    here = moment.astimezone(_zone)
    there = moment.astimezone(datetime.UTC)
    return f"{here:%Y-%m-%d %H:%M:%S %Z} ({there:%Y-%m-%d %H:%M:%S} UTC)"


def parse(text: str) -> datetime.datetime:
    """The moment that somebody typed, in UTC; without an offset it is local.

    Raises: WrongTime: where it is no time, or the clock showed it twice, or never.
    """
    try:
        typed = datetime.datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise WrongTime(f"not a time: {text!r}", _EXAMPLE) from error
    if typed.tzinfo is not None:
        return typed.astimezone(datetime.UTC)
    # At a change of the clock one local time stands for two moments, or for none.
    first, second = (_in_utc(typed.replace(fold=fold)) for fold in (0, 1))
    if first == second:
        return first
    if first.astimezone(_zone).replace(tzinfo=None, fold=0) != typed:
        raise WrongTime(
            f"{text} never was: the clock was put forward past it",
            "Name a time before or after the change.",
        )
    raise WrongTime(
        f"{text} was twice: the clock was put back",
        f"Say which with an offset: {_with_offset(first)} or {_with_offset(second)}.",
    )


def _in_utc(naive: datetime.datetime) -> datetime.datetime:
    if _zone is not None:
        naive = naive.replace(tzinfo=_zone)
    return naive.astimezone(datetime.UTC)


def _with_offset(moment: datetime.datetime) -> str:
    return moment.astimezone(_zone).isoformat(timespec="seconds")


def span(duration: datetime.timedelta) -> str:
    """A length of time in its two largest units."""
    seconds = max(0, int(duration.total_seconds()))
    days, seconds = divmod(seconds, 86400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s"


def now() -> datetime.datetime:
    """The present moment, aware, in UTC."""
    return datetime.datetime.now(datetime.UTC)
