"""Ends in doubt, as the daemon meets them: sealed, or told as a lost timeline.

A record that saw more of a storage than its server has may come from a Zope that was
left running over a restore.  Or what it saw was the TID of a vote that a killed server
forgot, while nobody of ours looked.  Where no restore can be the reason, the storage is
sealed (`zeo.seal`): the seal proves that nothing lies between.
"""

import datetime
import logging
from collections.abc import Mapping

from tidstorage.coherence import tid
from tidstorage.coherence.following import Coherence, LostTimeline
from tidstorage.daemon.settings import ObservedStorage
from tidstorage.daemon.threads import run_in_thread
from tidstorage.errors import NotConnected
from tidstorage.system.address import address_text
from tidstorage.zeo.seal import seal

logger = logging.getLogger(__name__)


class Doubts:
    """What records saw that no server has, and what was done about it.

    storages: {id: the storage}.  begun: when the present timeline began; None in the
    first one, before which there was none to be left over.
    """

    def __init__(
        self,
        storages: Mapping[str, ObservedStorage],
        begun: datetime.datetime | None,
    ) -> None:
        self._storages = storages
        self._begun = begun
        #: {storage id: the highest TID that was doubted when it was sealed}.
        self._tried: dict[str, int] = {}
        self._said = ""

    def find_new(self, coherence: Coherence) -> dict[str, int]:
        """{storage id: TID} to seal now: each only once for a doubt."""
        found: dict[str, int] = {}
        for lost in coherence.lost_timeline.values():
            seen = lost.bound - 1
            if seen > self._tried.get(lost.seen, 0) and self._may_be_a_vote(seen):
                found[lost.seen] = max(seen, found.get(lost.seen, 0))
        return found

    def _may_be_a_vote(self, seen: int) -> bool:
        return self._begun is None or tid.to_time(seen) > self._begun

    async def seal(self, coherence: Coherence, doubted: Mapping[str, int]) -> None:
        """Seal these; what is no doubt any more is forgotten."""
        for storage_id, seen in doubted.items():
            storage = self._storages[storage_id]
            try:
                last = await run_in_thread(lambda s=storage: _seal(s))  # type: ignore[misc]
            except NotConnected as error:
                if str(error) != self._said:
                    self._said = str(error)
                    logger.warning("%s", error)
                continue
            self._tried[storage_id] = seen
            if last <= seen:
                continue
            logger.info(
                "storage %s: %s was seen, which it does not hold: a vote that was"
                " abandoned; sealed with the empty transaction %s",
                storage_id,
                tid.to_text(seen),
                tid.to_text(last),
            )
            _forget(coherence, storage_id, last)


def _seal(storage: ObservedStorage) -> int:
    server = address_text(storage.address)
    return seal(storage.address, storage.name, storage.id, server=server)


def _forget(coherence: Coherence, storage_id: str, last: int) -> None:
    lost: dict[bytes, LostTimeline] = coherence.lost_timeline
    for commit_id, one in [*lost.items()]:
        if one.seen == storage_id and one.bound <= last:
            del lost[commit_id]
