"""A time.gmtime() that stays in a second longer than datetime's clock does.

In earnest it does so by up to a tick of the kernel, since it reads time(2).
"""

import datetime
import time

LAG = 0.5


def install(monkeypatch):
    """Let gmtime() lag by half a second."""
    real = time.gmtime
    monkeypatch.setattr(
        time,
        "gmtime",
        lambda seconds=None: real(time.time() - LAG if seconds is None else seconds),
    )


def await_part_of_second(begin):
    """Wait until so much of a second of datetime's clock is over; returns the second.

    Before ``LAG`` gmtime() shows the second before, after it the same one.
    """
    while True:
        now = datetime.datetime.now(datetime.UTC)
        if begin <= now.microsecond / 1e6 < begin + 0.1:
            return f"{now:%Y-%m-%d-%H-%M-%S}"
        time.sleep(0.005)
