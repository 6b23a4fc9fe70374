"""Records without a stamp: how many each storage got, and who wrote the last one.

Of who wrote a record a storage knows what its writer said: a user, a description.
"""

import base64
import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidstorage.coherence import tid
from tidstorage.daemon.settings import ObservedStorage
from tidstorage.points.entries import Unstamped

logger = logging.getLogger(__name__)

#: Seconds between two questions to the servers.
LOOK_PERIOD = 5.0
#: Records from the end of a storage among which the unstamped one is looked for.
_LOOKED_THROUGH = 1000
_CONNECT_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class UserAndDescription:
    """What a record says of who wrote it."""

    user: str
    description: str


class UnstampedRecords:
    """Counts records without a stamp, and finds out who wrote each storage's last one.

    counted_before: {storage id: what an earlier run of the daemon has counted}.
    """

    def __init__(
        self,
        storages: Sequence[ObservedStorage],
        counted_before: Mapping[str, Unstamped] | None = None,
    ) -> None:
        self._storages = {storage.id: storage for storage in storages}
        self._counts: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._written_by: dict[str, UserAndDescription] = {}
        for storage, before in (counted_before or {}).items():
            if storage in self._storages:
                self._counts[storage] = before.count
                self._last[storage] = before.tid
                self._written_by[storage] = UserAndDescription(
                    before.user, before.description
                )
        self._asked_for = dict(self._last)
        self._next_look = 0.0

    def add(self, storage: str, tids: Sequence[int]) -> None:
        """Count the records with these TIDs, unless an earlier run has done so."""
        last = self._last.get(storage, 0)
        new = [number for number in tids if number > last]
        if new:
            self._counts[storage] = self._counts.get(storage, 0) + len(new)
            self._last[storage] = new[-1]

    def find_writers(self) -> None:
        """Ask the servers who wrote the last ones; now and then, in a thread."""
        now = time.monotonic()
        if now < self._next_look:
            return
        new = {
            storage: number
            for storage, number in self._last.items()
            if number != self._asked_for.get(storage)
        }
        if new:
            self._next_look = now + LOOK_PERIOD
            self._asked_for.update(new)
            threading.Thread(target=self._ask, args=(new,), daemon=True).start()

    @property
    def counted(self) -> dict[str, Unstamped]:
        """{storage id: what is known}, for the storages that have any.

        User and description may be those of an earlier record, while nobody has
        asked for the last one's.
        """
        nobody = UserAndDescription("", "")
        return {
            storage: Unstamped(
                count,
                self._last[storage],
                self._written_by.get(storage, nobody).user,
                self._written_by.get(storage, nobody).description,
            )
            for storage, count in self._counts.items()
        }

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """JSON."""
        return {
            storage: {
                "count": unstamped.count,
                "tid": tid.to_text(unstamped.tid),
                "user": unstamped.user,
                "description": unstamped.description,
                "time": tid.to_time(unstamped.tid).isoformat(),
            }
            for storage, unstamped in self.counted.items()
        }

    def _ask(self, last: Mapping[str, int]) -> None:
        for storage, number in last.items():
            try:
                writer = _read_writer(self._storages[storage], number)
            except Exception as error:
                # A server that is down, or packs, or passes on what its storage
                # raises: nothing but words is missing.
                logger.info(
                    "storage %s: it cannot be told who writes without a stamp: %s",
                    storage,
                    error,
                )
                continue
            if writer is not None:
                self._written_by[storage] = writer


def _read_writer(storage: ObservedStorage, number: int) -> UserAndDescription | None:
    """Who wrote the record with a TID; None where it is not among the last ones."""
    # A daemon that observes nothing needs no ZEO.
    from tidstorage.zeo.client import ZeoClient

    client = ZeoClient(
        storage.address,
        storage.name,
        label="tidstorage writers",
        connect_seconds=_CONNECT_TIMEOUT,
    )
    with contextlib.closing(client):
        entries = client.newest(_LOOKED_THROUGH)
    for entry in entries:
        if entry["id"] == base64.b64encode(tid.to_bytes(number)):
            return UserAndDescription(
                _text(entry["user_name"]), _text(entry["description"])
            )
    return None


def _text(value: bytes | str) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip()
