"""Who stamps, and who does not: what points can be relied on for.

Zopes say what they are called, and then of each commit that it is stamped; whoever
is expected and was never heard may write without stamps.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tidstorage.daemon.settings import ObservedStorage
from tidstorage.daemon.unstamped import UnstampedRecords
from tidstorage.points import entries
from tidstorage.points.entries import Stamping
from tidstorage.system import clock
from tidstorage.wire.protocol import Hello

#: Processes without a name that are remembered.
_NAMELESS_KEPT = 100
#: Transactions that are remembered with their processes, at least.
_WRITERS_KEPT = 5000
#: Seconds between entries of the journal, unless somebody is in it for the first time.
NOTE_PERIOD = 600.0


class Writers:
    """Which processes tell of stamped commits, and what was written without stamps.

    expected: names of Zopes.  former: what a former run has left in the journal.
    """

    def __init__(
        self,
        expected: Sequence[str],
        storages: Sequence[ObservedStorage] = (),
        former: entries.WritersSeen | None = None,
    ) -> None:
        self._expected = tuple(expected)
        self._heard: dict[object, tuple[Hello, datetime.datetime]] = {}
        self._since = clock.now() if former is None else former.since
        for each in () if former is None else former.stamping:
            process = Hello(each.name, each.host, each.pid)
            self._heard[each.name] = process, each.last
        self.unstamped = UnstampedRecords(
            storages, None if former is None else former.unstamped
        )
        # Two generations, so that forgetting costs nothing.
        self._writers: dict[str, Hello] = {}
        self._former_writers: dict[str, Hello] = {}
        self._noted = former
        self._next_note = 0.0

    def heard(self, process: Hello, transaction_ids: Iterable[str] = ()) -> None:
        """It told of these commits just now."""
        self._writers.update(dict.fromkeys(transaction_ids, process))
        if len(self._writers) > _WRITERS_KEPT:
            self._former_writers, self._writers = self._writers, {}
        key = process.name or (process.host, process.pid)
        self._heard.pop(key, None)
        self._heard[key] = process, clock.now()
        nameless = [each for each in self._heard if not isinstance(each, str)]
        for each in nameless[:-_NAMELESS_KEPT]:
            del self._heard[each]

    def writer(self, commit_id: bytes) -> Hello | None:
        """Who told of this commit, if that was lately."""
        told = commit_id.hex()
        return self._writers.get(told) or self._former_writers.get(told)

    @property
    def state(self) -> dict[str, Any]:
        """JSON; ``since``: what was before, nobody knows."""
        return {
            "since": self._since.isoformat(),
            "never_seen_stamping": [
                each for each in self._expected if each not in self._heard
            ],
            "stamping": [
                {**process._asdict(), "last": last.isoformat()}
                for process, last in self._heard.values()
            ],
            "unstamped": self.unstamped.state,
        }

    # What outlives the daemon

    def news(self, now: float, *, ending: bool = False) -> entries.WritersSeen | None:
        """What the journal should have by ``now`` (seconds of any one clock).

        However often something changes, the journal does not grow by more than an
        entry in NOTE_PERIOD, and one for each Zope and storage that is new in it.
        """
        entry = self._entry()
        if not self._is_due(entry, now, ending):
            return None
        self._noted = entry
        self._next_note = now + NOTE_PERIOD
        return entry

    def _is_due(self, entry: entries.WritersSeen, now: float, ending: bool) -> bool:
        noted = self._noted
        if noted is None:
            return bool(self._expected or entry.unstamped)
        if ending:
            return replace(entry, time=noted.time) != noted
        if _names(entry) - _names(noted):
            return True
        return now >= self._next_note and entry.unstamped != noted.unstamped

    def forget_notes(self) -> None:
        """The journal is another file now, and has to be told anew."""
        self._noted = None

    def _entry(self) -> entries.WritersSeen:
        return entries.WritersSeen(
            clock.now(),
            self._since,
            tuple(
                Stamping(*process, last)
                for process, last in self._heard.values()
                if process.name in self._expected
            ),
            self.unstamped.counted,
        )


def _names(entry: entries.WritersSeen) -> set[tuple[str, str]]:
    return {
        *(("zope", each.name) for each in entry.stamping),
        *(("storage", each) for each in entry.unstamped),
    }
