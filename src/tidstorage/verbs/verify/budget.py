"""How long a verification may take."""

import datetime
import time


class Budget:
    """Ends at a moment; None: never.

    Between two files only, and not before one is done: however small it is, every
    run comes further than the one before.
    """

    def __init__(self, duration: datetime.timedelta | None) -> None:
        self._end = (
            None if duration is None else time.monotonic() + duration.total_seconds()
        )
        self._done = False

    def spend(self) -> None:
        """Something was done that the next run need not do again."""
        self._done = True

    def is_over(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._done and self._end is not None and time.monotonic() > self._end


class OutOfTime(Exception):
    """The budget is over; what was done is remembered."""
