"""The barrier: one instant at which every storage of the cluster stands still.

All votes of two-phase commit precede any finish, and a storage is locked from
vote to finish.  So while one client holds the vote of *every* storage, no
transaction stands between two of its finishes, and the last TIDs of all
storages are a coherent cut, whoever wrote them, stamped or not.

Every commit of the cluster waits meanwhile.  Therefore the votes are held by a
process of its own (`tidstorage.zeo.barrier_helper`) that is killed on the deadline:
its sockets close, and the servers release its locks.
"""

import datetime
import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.point import Point, Skew
from tidstorage.errors import BarrierFailed
from tidstorage.system import child
from tidstorage.system.address import Address

#: Seconds in which the helper has to start and to reach every server.  No lock
#: is held yet, so that this may be longer than the deadline of the barrier.
CONNECT_SECONDS = 15.0

#: Seconds between the first attempt and the second; doubled each time.
FIRST_PAUSE = 0.25


@dataclass(frozen=True, slots=True)
class BarrierStorage:
    """A storage to hold: ``id`` is also its name on the ZEO server."""

    id: str
    address: Address


def storages_of(cluster: Cluster) -> list[BarrierStorage]:
    """All storages of a cluster, as the barrier needs them."""
    return [
        BarrierStorage(storage.id, cluster.zeo(storage.zeo).address)
        for storage in cluster.storages
    ]


@dataclass(frozen=True, slots=True)
class StorageEnd:
    """Where a storage ends, as its server says: its last TID (0 without one), and the
    bytes of its Data.fs up to the end of the last finished transaction."""

    tid: int
    size: int


@dataclass(frozen=True, slots=True)
class Instant:
    """What a barrier saw while it held all votes.

    time: by our clock, in UTC, while they were held.  All that was acknowledged by
    then is below the ends, and nothing that is below them was committed later.
    ends: {storage id: where it ended}.  skew: {storage id: of its server's clock},
    without storages that nobody may write.
    """

    time: datetime.datetime
    ends: Mapping[str, StorageEnd]
    skew: Mapping[str, Skew]

    @property
    def vector(self) -> dict[str, int]:
        """{storage id: last TID}; 0 of a storage without a transaction."""
        return {storage: end.tid for storage, end in self.ends.items()}

    def point(self, timeline: int = 1) -> Point:
        """The coherency point that it is."""
        return Point(
            self.vector,
            self.time,
            "barrier",
            timeline,
            complete_until=self.time,
            skew=self.skew,
        )


class _AttemptFailed(Exception):
    """One attempt gave no vector; its text says why."""


def take(
    storages: Sequence[BarrierStorage], deadline: float = 2.0, attempts: int = 5
) -> dict[str, int]:
    """{storage id: last TID} at one instant at which no commit was under way.

    deadline: seconds for which commits may be held, for all storages together; after
        them everything is released and tried again, with growing pauses.
    attempts: how often it is tried at most.

    A storage without a transaction has TID 0.

    Raises: BarrierFailed: where no attempt succeeds, or names are not unique.
    """
    return take_instant(storages, deadline=deadline, attempts=attempts).vector


def take_instant(
    storages: Sequence[BarrierStorage], deadline: float = 2.0, attempts: int = 5
) -> Instant:
    """As `take`, with all that was seen at that instant.

    Raises: as `take`.
    """
    _refuse_repeated_names(storages)
    reason = "nothing was tried"
    for attempt in range(attempts):
        if attempt:
            time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))
        try:
            return _attempt(storages, deadline)
        except _AttemptFailed as error:
            reason = str(error)
    raise BarrierFailed(f"no barrier in {attempts} attempts; the last one: {reason}")


def _refuse_repeated_names(storages: Sequence[BarrierStorage]) -> None:
    """Refuse two storages of one name: clients lock by name, then by address.

    Only where the names alone decide is that order the same for every client:
    one server has several addresses for the clients of several hosts.
    """
    names = [storage.id for storage in storages]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BarrierFailed(
            f"storage names are not unique: {', '.join(repeated)}",
            "Give every storage of the cluster a name of its own; two clients"
            " could otherwise wait for each other.",
        )


def _attempt(storages: Sequence[BarrierStorage], deadline: float) -> Instant:
    request = {
        "deadline": deadline,
        "storages": [
            {"id": storage.id, "address": storage.address} for storage in storages
        ],
    }
    with subprocess.Popen(
        child.python("tidstorage.zeo.barrier_helper"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child.environment(),
        text=True,
    ) as helper:
        try:
            assert helper.stdin is not None
            helper.stdin.write(json.dumps(request) + "\n")
            helper.stdin.close()
            _answer(helper, CONNECT_SECONDS, "the servers could not be reached")
            answer = _answer(helper, deadline, "a storage stayed locked")
        except BrokenPipeError:
            raise _AttemptFailed("the helper process did not start") from None
        finally:
            helper.kill()
    vector = tid.vector_from_text(answer["vector"])
    sizes: dict[str, int] = answer["sizes"]
    return Instant(
        datetime.datetime.fromtimestamp(answer["time"], datetime.UTC),
        {storage: StorageEnd(last, sizes[storage]) for storage, last in vector.items()},
        {storage: Skew(*bounds) for storage, bounds in answer["skew"].items()},
    )


def _answer(
    helper: "subprocess.Popen[str]", seconds: float, meaning: str
) -> dict[str, Any]:
    """Read the helper's next line; kill it when that takes longer than ``seconds``.

    Raises: _AttemptFailed: where it was killed, or tells of an error.
    """
    assert helper.stdout is not None
    timer = threading.Timer(seconds, helper.kill)
    timer.start()
    try:
        line = helper.stdout.readline()
    finally:
        timer.cancel()
    if not line.endswith("\n"):
        raise _AttemptFailed(f"{meaning} for {seconds:g} s")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise _AttemptFailed(answer["error"])
    return answer
