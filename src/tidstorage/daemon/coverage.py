"""Who stamps, and who does not: what points can be relied on for.

Zopes say what they are called, and then of each commit that it is stamped; whoever
is expected and was never heard may write without stamps.  Of unstamped records the
storages tell who wrote them, as far as their writers said.
"""

import base64
import datetime
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidstorage import point, tid
from tidstorage.daemon.configuration import ObservedStorage
from tidstorage.protocol import Hello

logger = logging.getLogger(__name__)

#: Seconds between two looks at who wrote without a stamp.
LOOK_PERIOD = 5.0
#: Records from the end among which an unstamped one is looked for.
_LOOKED_THROUGH = 1000
#: Processes without a name that are remembered.
_NAMELESS_KEPT = 100
_CONNECT_TIMEOUT = 2.0
_SMALLEST_CACHE = 1 << 20


class Coverage:
    """Which processes tell of stamped commits; ``expected``: names of Zopes."""

    def __init__(self, expected: Sequence[str]) -> None:
        self._expected = tuple(expected)
        self._since = point.now()
        self._heard: dict[object, tuple[Hello, datetime.datetime]] = {}

    def heard(self, process: Hello) -> None:
        """It told of a commit just now."""
        key = process.name or (process.host, process.pid)
        self._heard.pop(key, None)
        self._heard[key] = process, point.now()
        nameless = [each for each in self._heard if not isinstance(each, str)]
        for each in nameless[:-_NAMELESS_KEPT]:
            del self._heard[each]

    @property
    def state(self) -> dict[str, Any]:
        """JSON; ``since``: what was before, the daemon does not know."""
        return {
            "since": self._since.isoformat(),
            "never_seen_stamping": [
                each for each in self._expected if each not in self._heard
            ],
            "stamping": [
                {**process._asdict(), "last": last.isoformat()}
                for process, last in self._heard.values()
            ],
        }


@dataclass(frozen=True, slots=True)
class Writer:
    """Who wrote the record ``tid``, in its own words."""

    tid: int
    user: str
    description: str


class UnstampedWriters:
    """Finds out, at leisure, who wrote the last unstamped record of each storage."""

    def __init__(self, storages: Sequence[ObservedStorage]) -> None:
        self._storages = {each.id: each for each in storages}
        self._found: dict[str, Writer] = {}
        self._sought: dict[str, int] = {}
        self._next_look = 0.0

    def look(self, last: Mapping[str, int]) -> None:
        """Ask for the records ``last`` ({storage id: TID}); returns at once."""
        now = time.monotonic()
        if now < self._next_look:
            return
        new = {
            storage: number
            for storage, number in last.items()
            if number != self._sought.get(storage)
        }
        if new:
            self._next_look = now + LOOK_PERIOD
            self._sought.update(new)
            threading.Thread(target=self._ask, args=(new,), daemon=True).start()

    def state(
        self, counts: Mapping[str, int], last: Mapping[str, int]
    ) -> dict[str, dict[str, Any]]:
        """JSON for the storages that have unstamped records."""
        return {
            storage: self._state_of(storage, count, last[storage])
            for storage, count in counts.items()
            if storage in last
        }

    def _state_of(self, storage: str, count: int, last: int) -> dict[str, Any]:
        state = {
            "count": count,
            "tid": tid.to_text(last),
            "time": tid.to_time(last).isoformat(),
        }
        writer = self._found.get(storage)
        if writer is not None:
            # Of an earlier one, where the last was written since the last look.
            state.update(user=writer.user, description=writer.description)
        return state

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
    from ZEO.ClientStorage import ClientStorage

    client = ClientStorage(
        storage.address,
        storage=storage.name,
        client_label="tidstorage coverage",
        cache_size=_SMALLEST_CACHE,
        read_only=True,
        wait_timeout=_CONNECT_TIMEOUT,
    )
    try:
        entries = client._call("undoLog", 0, -_LOOKED_THROUGH)
    finally:
        client.close()
    for entry in entries:
        if entry["id"] == base64.b64encode(tid.to_bytes(number)):
            return Writer(
                number, _text(entry["user_name"]), _text(entry["description"])
            )
    return None


def _text(value: bytes | str) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip()
