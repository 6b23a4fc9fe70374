"""Records without a stamp: how many each storage got, and who wrote the last one.

Storages tell who wrote a record, as far as its writer said.
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

#: Seconds between two looks at who wrote without a stamp.
LOOK_PERIOD = 5.0
#: Records from the end among which an unstamped one is looked for.
_LOOKED_THROUGH = 1000
_CONNECT_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Writer:
    """What a record says of its writer."""

    user: str
    description: str


class UnstampedRecords:
    """Counts them, and finds out at leisure who wrote the last one of each storage.

    former: {storage id: what a former run has counted}.
    """

    def __init__(
        self,
        storages: Sequence[ObservedStorage],
        former: Mapping[str, Unstamped] | None = None,
    ) -> None:
        self._storages = {each.id: each for each in storages}
        self._counts: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._found: dict[str, Writer] = {}
        for storage, found in (former or {}).items():
            if storage in self._storages:
                self._counts[storage] = found.count
                self._last[storage] = found.tid
                self._found[storage] = Writer(found.user, found.description)
        self._sought = dict(self._last)
        self._next_look = 0.0

    def seen(self, storage: str, tids: Sequence[int]) -> None:
        """Records without a stamp; what a former run has counted counts once."""
        last = self._last.get(storage, 0)
        new = [each for each in tids if each > last]
        if new:
            self._counts[storage] = self._counts.get(storage, 0) + len(new)
            self._last[storage] = new[-1]

    def look(self) -> None:
        """Ask for the writers of the last ones; returns at once."""
        now = time.monotonic()
        if now < self._next_look:
            return
        new = {
            storage: number
            for storage, number in self._last.items()
            if number != self._sought.get(storage)
        }
        if new:
            self._next_look = now + LOOK_PERIOD
            self._sought.update(new)
            threading.Thread(target=self._ask, args=(new,), daemon=True).start()

    @property
    def counted(self) -> dict[str, Unstamped]:
        """{storage id: what is known}, for the storages that have any.

        The writer is that of an earlier one, where the last was written since the
        last look.
        """
        nobody = Writer("", "")
        return {
            storage: Unstamped(
                count,
                self._last[storage],
                self._found.get(storage, nobody).user,
                self._found.get(storage, nobody).description,
            )
            for storage, count in self._counts.items()
        }

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """JSON."""
        return {
            storage: {**found.to_json(), "time": tid.to_time(found.tid).isoformat()}
            for storage, found in self.counted.items()
        }

    def _ask(self, sought: Mapping[str, int]) -> None:
        for storage, number in sought.items():
            try:
                writer = _writer(self._storages[storage], number)
            except Exception as error:
                # A server that is down, or packs, or passes on what its storage
                # raises: nothing but words is missing.
                logger.info("storage %s: unstamped by whom? %s", storage, error)
                continue
            if writer is not None:
                self._found[storage] = writer


def _writer(storage: ObservedStorage, number: int) -> Writer | None:
    """None where the record is not among the last ones."""
    # A daemon that observes nothing needs no ZEO.
    from tidstorage.zeo.client import ZeoClient

    client = ZeoClient(
        storage.address,
        storage.name,
        label="tidstorage coverage",
        connect_seconds=_CONNECT_TIMEOUT,
    )
    with contextlib.closing(client):
        entries = client.newest(_LOOKED_THROUGH)
    for entry in entries:
        if entry["id"] == base64.b64encode(tid.to_bytes(number)):
            return Writer(_text(entry["user_name"]), _text(entry["description"]))
    return None


def _text(value: bytes | str) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip()
