"""How long a verification may take."""

import datetime
import time


class TimeBudget:
    """Time for one run, which is over at a moment, or never.

    It is looked at between two files, and it is not over before one is done:
    however small it is, every run comes further than the one before.

    duration: None: as long as it takes.
    """

    def __init__(self, duration: datetime.timedelta | None) -> None:
        self._end = (
            None if duration is None else time.monotonic() + duration.total_seconds()
        )
        self._has_progress = False

    def note_progress(self) -> None:
        """Something was done that the next run need not do again."""
        self._has_progress = True

    def is_over(self) -> bool:
        """Whether nothing more is to be begun."""
        return (
            self._has_progress
            and self._end is not None
            and time.monotonic() > self._end
        )


class OutOfTime(Exception):
    """The time is over; what was done is kept for the next run."""
