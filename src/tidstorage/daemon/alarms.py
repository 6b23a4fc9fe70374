"""What an administrator has to hear of: logged once, and kept for ``status``.

- A half commit was found: the live databases are damaged.
- A process writes what it knows of a lost timeline: it ran on over a restore.  Points
  stop before its commits.
- Stamps name storages that the configuration does not know.
"""

import logging
from collections.abc import Sequence
from typing import Any

from tidstorage.coherence import tid
from tidstorage.coherence.following import LostTimeline
from tidstorage.coherence.point import HalfCommit, UnknownOutcome
from tidstorage.daemon.writers import Writers

logger = logging.getLogger(__name__)


class Alarms:
    """writers: is asked which process made a commit.

    lost_timeline: JSON, one for each commit of a process that writes from a lost
    timeline, while it holds up the point.
    """

    def __init__(self, writers: Writers) -> None:
        self._writers = writers
        self.lost_timeline: list[dict[str, Any]] = []
        self._last_unknown = ""

    def begin_timeline(self) -> None:
        """What was lost with the last timeline holds up nothing any more."""
        self.lost_timeline = []

    def tell_half_commit(self, half: HalfCommit) -> None:
        """To be called once for each."""
        logger.error(
            "half commit %s: it is on %s, and will never be on %s; see bin/cluster"
            " damage",
            half.commit_id.hex(),
            ", ".join(sorted(half.present)),
            ", ".join(half.missing),
        )

    def tell_unknown(self, unknown: str) -> None:
        """``unknown``: which storages points do not account for; empty for none."""
        if unknown and unknown != self._last_unknown:
            logger.error("points are unverified: %s", unknown)
        self._last_unknown = unknown

    def tell_unknown_outcomes(self, outcomes: Sequence[UnknownOutcome]) -> None:
        """To be called once for each, with those that a point is the first to hold."""
        if not outcomes:
            return
        unseen = sorted({storage for each in outcomes for storage in each.unseen})
        logger.warning(
            "%d transaction(s) may be whole or not, the first is %s: what %s held of"
            " them may have been packed away; points are unverified until the next"
            " barrier",
            len(outcomes),
            outcomes[0].commit_id.hex(),
            ", ".join(unseen),
        )

    def tell_lost_timeline(self, all_lost: Sequence[LostTimeline]) -> None:
        """``all_lost``: all of this timeline, in the order in which they were seen."""
        for lost in all_lost[len(self.lost_timeline) :]:
            self._tell_lost(lost)

    def _tell_lost(self, lost: LostTimeline) -> None:
        process = self._writers.find_process(lost.commit_id)
        if process is None:
            writer = "a process that has not told its name"
        else:
            name = process.name or "a process without a name"
            writer = f"{name} (process {process.pid} on {process.host})"
        self.lost_timeline.append(
            {
                "commit": lost.commit_id.hex(),
                "storage": lost.storage,
                "tid": tid.to_text(lost.tid),
                "writer": writer,
                "process": process and process._asdict(),
            }
        )
        logger.critical(
            "%s writes what it knows of a lost timeline: commit %s, record %s of"
            " storage %s, had seen %s of storage %s, whose last one is %s; nothing past"
            " it is published.  Stop every Zope, then bin/cluster rebase",
            writer,
            lost.commit_id.hex(),
            tid.to_text(lost.tid),
            lost.storage,
            tid.to_text(lost.bound - 1),
            lost.seen,
            tid.to_text(lost.last),
        )
