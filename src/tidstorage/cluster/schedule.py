"""When cron would have started something: five crontab fields, in local time.

By cronsim, which reads them as Debian's cron does.
"""

import datetime

from cronsim import CronSim, CronSimError


def mistake(fields: str) -> str | None:
    """What is wrong with the five fields, in words; None where nothing is."""
    try:
        CronSim(fields.upper(), datetime.datetime(2000, 1, 1))
    except CronSimError as error:
        return str(error)
    return None


def last_due(fields: str, now: datetime.datetime) -> datetime.datetime:
    """The latest moment before ``now`` at which cron starts it; aware.

    ValueError where it is never.
    """
    local = now.astimezone().replace(tzinfo=None)
    try:
        return next(CronSim(fields.upper(), local, reverse=True)).astimezone()
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"{fields!r} is no schedule: {error}") from error
