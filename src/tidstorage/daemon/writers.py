"""Who writes with stamps, and who without.

A process whose hook is on says what it is called, and then tells of each commit, which
is stamped.  A Zope of the description that was never heard may write without stamps:
points past its records are unverified.
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
#: Commits that are remembered with their processes, at least.
_COMMITS_KEPT = 5000
#: Seconds between entries of the journal, unless somebody is in it for the first time.
NOTE_PERIOD = 600.0


class Writers:
    """Which processes tell of stamped commits, and what was written without stamps.

    expected: names of the description's Zopes.  last_entry: what an earlier run of the
    daemon has left in the journal.  unstamped: the records without stamps.
    """

    def __init__(
        self,
        expected: Sequence[str],
        storages: Sequence[ObservedStorage] = (),
        last_entry: entries.WritersSeen | None = None,
    ) -> None:
        self._expected = tuple(expected)
        self._heard: dict[object, tuple[Hello, datetime.datetime]] = {}
        self._since = clock.now() if last_entry is None else last_entry.since
        for zope in () if last_entry is None else last_entry.stamping:
            process = Hello(zope.name, zope.host, zope.pid)
            self._heard[zope.name] = process, zope.last
        self.unstamped = UnstampedRecords(
            storages, None if last_entry is None else last_entry.unstamped
        )
        # Two generations, so that forgetting costs nothing.
        self._process_of: dict[str, Hello] = {}
        self._process_of_older: dict[str, Hello] = {}
        self._journaled = last_entry
        self._next_entry = 0.0

    def hear(self, process: Hello, transaction_ids: Iterable[str] = ()) -> None:
        """Note that a process told of these commits just now."""
        self._process_of.update(dict.fromkeys(transaction_ids, process))
        if len(self._process_of) > _COMMITS_KEPT:
            self._process_of_older, self._process_of = self._process_of, {}
        key = process.name or (process.host, process.pid)
        self._heard.pop(key, None)
        self._heard[key] = process, clock.now()
        nameless = [other for other in self._heard if not isinstance(other, str)]
        for oldest in nameless[:-_NAMELESS_KEPT]:
            del self._heard[oldest]

    def find_process(self, commit_id: bytes) -> Hello | None:
        """Which process told of this commit; None: long ago, or none did."""
        told = commit_id.hex()
        return self._process_of.get(told) or self._process_of_older.get(told)

    @property
    def state(self) -> dict[str, Any]:
        """JSON; ``since``: nobody knows what was before that time."""
        return {
            "since": self._since.isoformat(),
            "never_seen_stamping": [
                name for name in self._expected if name not in self._heard
            ],
            "stamping": [
                {**process._asdict(), "last": last.isoformat()}
                for process, last in self._heard.values()
            ],
            "unstamped": self.unstamped.state,
        }

    # What outlives the daemon

    def take_entry(
        self, now: float, *, ending: bool = False
    ) -> entries.WritersSeen | None:
        """The entry that the journal should get now; None where it needs none.

        now: seconds of any one clock.  ending: this is the last call.  However often
        something changes, the journal does not grow by more than an entry in
        NOTE_PERIOD, and one for each Zope and storage that is new in it.
        """
        entry = self._entry()
        if not self._is_due(entry, now, ending):
            return None
        self._journaled = entry
        self._next_entry = now + NOTE_PERIOD
        return entry

    def _is_due(self, entry: entries.WritersSeen, now: float, ending: bool) -> bool:
        before = self._journaled
        if before is None:
            return bool(self._expected or entry.unstamped)
        if ending:
            return replace(entry, time=before.time) != before
        if _names(entry) - _names(before):
            return True
        return now >= self._next_entry and entry.unstamped != before.unstamped

    def begin_journal(self) -> None:
        """The journal is another file now: the next entry is due."""
        self._journaled = None

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
        *(("zope", zope.name) for zope in entry.stamping),
        *(("storage", storage) for storage in entry.unstamped),
    }
