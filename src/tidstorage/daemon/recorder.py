"""Puts what is published on disk: TID log and journal, in a thread of its own.

A disk that is slow holds up no connection: while one write is under way, newer
points replace each other, and the newest is written next.  A disk that is full is
tried again; nothing but points that were overtaken is left out.

The TID log has every point, as a difference.  The journal, whose lines are ten times
as long, needs one where anything but the vector and the time changes, before any
other entry, at the end, and now and then: a restart goes on from the newest vector of
the TID log, with everything else as the journal has it (`tidstorage.daemon.resuming`).
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import replace

from tidstorage.coherence.point import Point
from tidstorage.errors import Locked
from tidstorage.points import tid_log as tidlog
from tidstorage.points.entries import Entry, Published
from tidstorage.points.journal import Journal

logger = logging.getLogger(__name__)

#: Seconds until a write that failed is tried again.
RETRY_SECONDS = 1.0
#: Entries of the journal that are kept while it cannot be written.
LONGEST_QUEUE = 10_000


class Recorder:
    """Writes points and entries, the newest point of several.

    ``publish``, ``set_aside`` and ``note`` are called in the event loop and never wait.
    A thread does the writing, one piece at a time.
    """

    def __init__(
        self,
        tid_log: tidlog.Writer | None,
        log: Journal | None,
        journal_period: float = 0,
    ) -> None:
        """journal_period: seconds between points in the journal that are alike.

        tid_log, log: None where there is none.
        """
        self._tid_log = tid_log
        self._journal = log
        # Without a TID log the journal is all there is.
        self._journal_period = journal_period if tid_log is not None else 0.0
        self._journaled: Point | None = None
        self._left_out: Point | None = None
        self._point: Point | None = None
        self._queued: Point | None = None
        self._entries: list[Entry] = []
        self._wake = asyncio.Event()
        self._noted = asyncio.Event()
        self._failing = False
        self._writing = asyncio.Lock()
        self._aside: int | None = None

    def publish(self, point: Point) -> None:
        """Take the newest point; it is on disk as soon as the burst period allows."""
        self._point = point
        self._wake.set()

    def set_aside(self, timeline: int) -> None:
        """Start another TID log before the next point: in one, TIDs never go back."""
        self._point = None
        self._aside = timeline

    def note(self, entry: Entry) -> None:
        """Take another entry of the journal; it goes on disk at once."""
        if self._journal is None:
            return
        if len(self._entries) >= LONGEST_QUEUE:
            logger.error("the journal cannot be written; lost: %r", entry)
            return
        if self._point is not None and self._point is not self._queued:
            # It was published before: behind a new timeline it would count as of that.
            self._queued = self._point
            self._entries.append(Published(self._point))
        self._entries.append(entry)
        self._noted.set()
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            pause = self._pause()
            if pause:
                # Newer points wait too; entries do not.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._noted.wait()
            self._noted.clear()
            self._wake.clear()
            # A write that is under way is not cut off when this task ends.
            if not await asyncio.shield(self.flush()):
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    def _pause(self) -> float:
        if self._entries or self._point is None or self._tid_log is None:
            return 0.0
        return self._tid_log.due(time.time())

    async def flush(self) -> bool:
        """Write everything that is pending now; False where that fails."""
        async with self._writing:
            point, self._point = self._point, None
            entries, self._entries = self._entries, []
            try:
                await asyncio.to_thread(self._write, point, entries)
            except OSError as error:
                if not self._failing:
                    logger.error(
                        "cannot write what is published, trying again: %s", error
                    )
                self._failing = True
                self._point = self._point or point
                self._entries = entries + self._entries
                return False
            if self._failing:
                logger.info("what is published can be written again")
            self._failing = False
            return True

    def _write(self, point: Point | None, entries: list[Entry]) -> None:
        if self._journal is not None:
            self._write_journal(self._journal, point, entries)
        if self._tid_log is not None and point is not None:
            if self._aside is not None:
                self._tid_log.set_aside(f"before-{self._aside}")
                self._aside = None
            self._tid_log.write(point.vector, time.time())

    def _write_journal(
        self, log: Journal, point: Point | None, entries: list[Entry]
    ) -> None:
        left_out, last = self._left_out, self._journaled
        written = [*entries]
        if left_out is not None and entries:
            # It was published before them.
            written.insert(0, Published(left_out))
            left_out = None
        for entry in entries:
            if isinstance(entry, Published):
                last = entry.point
        if point is not None and point is not last:
            if entries or self._is_news(point):
                written.append(Published(point))
                left_out, last = None, point
            else:
                left_out = point
        if written:
            log.append(*written)
            entries.clear()
        self._left_out, self._journaled = left_out, last

    def _is_news(self, point: Point) -> bool:
        last = self._journaled
        return (
            last is None
            or not 0 <= (point.time - last.time).total_seconds() < self._journal_period
            or replace(
                last,
                vector=point.vector,
                time=point.time,
                complete_until=point.complete_until,
            )
            != point
        )

    async def reopen(self, point: Point) -> None:
        """Go on in new files where the old ones were moved away (HUP)."""
        async with self._writing:
            await asyncio.to_thread(self._reopen, point)

    def _reopen(self, point: Point) -> None:
        try:
            if self._journal is not None:
                self._journal.reopen()
                self._journaled = None
            if self._tid_log is not None:
                self._tid_log.reopen(point.vector, time.time())
        except (OSError, Locked) as error:
            logger.error("cannot reopen, going on in the old file: %s", error)

    async def close(self) -> None:
        """Write what is pending, and close the files."""
        await self.flush()
        if self._journal is not None and self._left_out is not None:
            with contextlib.suppress(OSError):
                # A restart does without it.
                self._journal.append(Published(self._left_out))
        if self._tid_log is not None:
            self._tid_log.close()
        if self._journal is not None:
            self._journal.close()
