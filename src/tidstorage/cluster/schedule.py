"""When cron starts something: five crontab fields, in local time.

They are read by cronsim, as Debian's cron reads them.  It is imported only where it is
needed: every command reads the description, and few have to do with schedules.
"""

import datetime

#: The numbers that minute, hour, day, month and weekday may be.
_NUMBERS = (range(60), range(24), range(1, 32), range(1, 13), range(8))


def mistake(fields: str) -> str | None:
    """What is wrong with the five fields, in words; None where nothing is."""
    if _is_plain(fields):
        return None
    from cronsim import CronSim, CronSimError

    try:
        CronSim(fields.upper(), datetime.datetime(2000, 1, 1))
    except CronSimError as error:
        return str(error)
    return None


def _is_plain(fields: str) -> bool:
    """Whether each field is ``*`` or a number that it may be, and no month is named.

    Such a schedule is right whatever else it says: only a month can lack its day.
    """
    words = fields.split()
    return (
        len(words) == len(_NUMBERS)
        and words[3] == "*"
        and all(
            word == "*" or (word.isdecimal() and int(word) in numbers)
            for word, numbers in zip(words, _NUMBERS, strict=True)
        )
    )


def last_due(fields: str, now: datetime.datetime) -> datetime.datetime:
    """The latest moment before ``now`` at which cron starts it; aware.

    Raises: ValueError: where it is never.
    """
    from cronsim import CronSim, CronSimError

    local = now.astimezone().replace(tzinfo=None)
    try:
        return next(CronSim(fields.upper(), local, reverse=True)).astimezone()
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"{fields!r} is no schedule: {error}") from error
