"""What waits too long: a point that grows old, a storage that nobody sees or that stays
locked, a reader that does not come back.

Each is said once in the log, kept for ``status`` for as long as it lasts, and once more
when it is over.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tidstorage.coherence.following import Coherence

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that waits.

    key: the same for as long as it is the same thing.  words: for people; they tell how
    long it has been so, and change with that.
    """

    key: str
    words: str


class Watched(Protocol):
    """What an observer tells of itself; times are seconds of one clock, None: not so.

    storage_id: whose it is.  working_since: since when it waits for its server's
    answer.  unobserved_since: since when it has no server, and unobserved_why.
    locked_since: since when the storage is locked by one and the same transaction.
    """

    @property
    def storage_id(self) -> str: ...

    @property
    def working_since(self) -> float | None: ...

    @property
    def unobserved_since(self) -> float | None: ...

    @property
    def unobserved_why(self) -> str: ...

    @property
    def locked_since(self) -> float | None: ...


def find_alarms(
    now: float, limit: float, coherence: Coherence, observers: Iterable[Watched]
) -> Iterator[Alarm]:
    """All that has waited for ``limit`` seconds or longer."""
    age = coherence.age(now)
    if age >= limit:
        behind = coherence.waits_for()
        of = f", for what is missing of {', '.join(behind)}" if behind else ""
        yield Alarm(
            "point",
            f"the point has been {age:.0f} s behind: {coherence.waiting()} record(s)"
            f" wait{of}",
        )
    for observer in observers:
        storage = observer.storage_id
        since = observer.unobserved_since
        if since is not None and now - since >= limit:
            yield Alarm(
                f"unobserved {storage}",
                f"storage {storage} has not been observed for {now - since:.0f} s:"
                f" {observer.unobserved_why}",
            )
        since = observer.working_since
        if since is not None and now - since >= limit:
            yield Alarm(
                f"silent {storage}",
                f"the server of storage {storage} has not answered a question for"
                f" {now - since:.0f} s",
            )
        since = observer.locked_since
        if since is not None and now - since >= limit:
            yield Alarm(
                f"locked {storage}",
                f"storage {storage} has been locked by one transaction for"
                f" {now - since:.0f} s: nobody can commit there; the server's log names"
                " the client that voted",
            )


class Waiting:
    """The alarms of this moment."""

    def __init__(self) -> None:
        self._alarms: dict[str, Alarm] = {}

    @property
    def in_words(self) -> list[str]:
        """JSON: what waits now."""
        return [alarm.words for alarm in self._alarms.values()]

    def update(self, alarms: Iterable[Alarm]) -> None:
        """Take what waits now; log what is new, and what is over."""
        current = {alarm.key: alarm for alarm in alarms}
        for key, alarm in current.items():
            if key not in self._alarms:
                logger.warning("%s", alarm.words)
        for key, alarm in self._alarms.items():
            if key not in current:
                logger.info("over: %s", alarm.words)
        self._alarms = current
