"""Sees every transaction of one storage, as a read-only client of its ZEO server.

The server announces each transaction as it finishes.  After a reconnect there is a
gap that nobody announces; so from then on, and from time to time, the server is
asked for its last TID.  Everything is done in a thread of the observer's own: a
server that is down, stopped, packing or slow holds up no other.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import POSError

from tidstorage.coherence import tid
from tidstorage.coherence.following import Probe
from tidstorage.coherence.record import Record
from tidstorage.daemon.fetching import Fetched, HistoryChanged, fetch
from tidstorage.daemon.settings import ObservedStorage
from tidstorage.daemon.throttle import Throttle
from tidstorage.engines.filestorage import read_abandoned_votes
from tidstorage.errors import FileUnreadable
from tidstorage.points.server_ends import OtherFile, compare_file
from tidstorage.zeo import server_errors
from tidstorage.zeo.barrier import StorageEnd
from tidstorage.zeo.client import NoCache, ZeoClient

logger = logging.getLogger(__name__)

#: Seconds in which announcements gather, so that one call fetches many records.
#: They end for all storages at the same moments: a transaction's records are then
#: seen together, and one computation takes them all.
GATHERING = 0.14
#: Seconds after which a server is asked even if it announced nothing.
LOOK_PERIOD = 5.0
#: Seconds between attempts to reach a server.
RETRY_PERIOD = 0.5
_CONNECT_TIMEOUT = 2.0
#: Iterations left before their end, of which the server keeps a little each.
_MOST_ITERATIONS_LEFT = 200


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What an observer calls, in its own thread.  Storages go by their ids.

    confirmed(storage): it still holds the record that it is observed after; called
        once.
    records(storage, records): what it got since, in order.
    complete(storage, moment): all that was acknowledged by then, in seconds of the
        monotonic clock, was told; called after the records.
    packed(storage, TID): up to this TID, inclusive, a pack may have taken away records
        that were not got before; called before the records that follow.
    ended(storage, TID): it has no further record up to this TID, and never will.
    probe(answer): what its server says of the commits it was asked for.
    history_changed(storage, why): it was restored, or is another; the last call.
    room(storage): how many more records of it are wanted by now.
    """

    confirmed: Callable[[str], None]
    records: Callable[[str, Sequence[Record]], None]
    complete: Callable[[str, float], None]
    packed: Callable[[str, int], None]
    ended: Callable[[str, int], None]
    probe: Callable[[Probe], None]
    history_changed: Callable[[str, str], None]
    room: Callable[[str], int]


class _Listener:
    """What a ClientStorage takes for its database.

    ZEO calls ``invalidate`` and ``invalidateCache`` in a thread of its own.

    seen: the TID, 8 bytes, up to which announcements are no news.
    throttle: is told to pause, once there is a client.
    """

    def __init__(self, wake: threading.Event) -> None:
        self.throttle: Throttle | None = None
        self.seen = bytes(8)
        self._wake = wake
        self._lock = threading.Lock()
        self._announced = False
        self._gap = True

    # ClientStorage.registerDB wants to know how records are transformed.
    def transform_record_data(self, data: bytes) -> bytes:
        return data

    untransform_record_data = transform_record_data

    def invalidate(self, transaction_id: bytes, oids: Any, version: str = "") -> None:
        # What was fetched before its announcement was read is no news, and one of
        # many announcements is enough: what comes after it is fetched.
        if transaction_id > self.seen and not self._announced:
            with self._lock:
                self._announced = True
            self._wake.set()
        if self.throttle is not None:
            self.throttle.pause()

    def invalidateCache(self) -> None:
        with self._lock:
            self._gap = True
        self._wake.set()

    def take(self) -> tuple[bool, bool]:
        """Since the last call: were transactions announced; may some be missing?"""
        with self._lock:
            taken = self._announced, self._gap
            self._announced, self._gap = False, False
        return taken


class StorageObserver:
    """Sees every record of one storage after a TID, until closed.

    aliases: {other name of a storage in stamps: its id}.
    after: the TID; what comes after it is told.
    is_record: ``after`` is known to be the TID of a record, not just the last one
        that a server named.

    ``connected`` and ``last`` (the last TID that was told) are for people to see, and
    so is what `tidstorage.daemon.waiting.Watched` names, by the monotonic clock.
    """

    def __init__(
        self,
        storage: ObservedStorage,
        aliases: Mapping[str, str],
        callbacks: Callbacks,
        after: int,
        *,
        is_record: bool,
    ) -> None:
        self.storage = storage
        self.last = after
        is_record = is_record and after not in self._read_votes().values()
        self._anchor = after if is_record and after else None
        self._ended = after
        #: The last TID that the server named when an iteration showed nothing new.
        self._exhausted_at: int | None = None
        self._confirmed = False
        self._busy = False
        self.connected = False
        self.working_since: float | None = None
        self.unobserved_since: float | None = time.monotonic()
        self.unobserved_why = "no server has answered yet"
        self.locked_since: float | None = None
        self._lock_time: float | None = None
        self._expected = 1
        self._aliases = aliases
        self._callbacks = callbacks
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._listener = _Listener(self._wake)
        self._asked: set[bytes] = set()
        self._asked_lock = threading.Lock()
        self._thread = threading.Thread(
            target=self._run, name=f"observer {storage.id}", daemon=True
        )

    @property
    def storage_id(self) -> str:
        """Of the storage that it observes."""
        return self.storage.id

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin, in a thread of its own.

        Raises: RuntimeError: where the system has no thread for it.
        """
        self._thread.start()

    def successor(self) -> "StorageObserver":
        """Another one, not started yet, that goes on where this one is."""
        return StorageObserver(
            self.storage,
            self._aliases,
            self._callbacks,
            self.last,
            is_record=self._anchor is not None,
        )

    def probe(self, commit_ids: frozenset[bytes]) -> None:
        """Ask the server, now, whether it may still get these."""
        with self._asked_lock:
            self._asked |= commit_ids
        self._wake.set()

    def close(self) -> None:
        """Stop; does not wait for a server that does not answer."""
        self._closing.set()
        self._wake.set()

    # In the observer's thread

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._run_with_one_client()
            except Exception as error:
                # No descriptor, no thread, no memory: nothing that lasts for ever.
                self._say_connected(False, error)
                self._closing.wait(LOOK_PERIOD)

    def _run_with_one_client(self) -> None:
        """Observe until closed, or until the server keeps too much for this client."""
        client = ZeoClient(
            self.storage.address,
            self.storage.name,
            label="tidstorage observer",
            connect_seconds=_CONNECT_TIMEOUT,
            wait=False,
            cache=NoCache(),
        )
        throttle = self._listener.throttle = Throttle(client)
        try:
            client.registerDB(self._listener)
            # Nobody announces what came before, or while there was no client.
            self._listener.invalidateCache()
            while (
                not self._closing.is_set()
                and client.iterations_left < _MOST_ITERATIONS_LEFT
            ):
                self._look(client, throttle)
        finally:
            self.connected = False
            client.close()

    def _look(self, client: ZeoClient, throttle: Throttle) -> None:
        """Wait for something to happen, and see all of it."""
        # Where the last look saw something the next one will: nobody has to say so.
        due = self._busy or self._wake.wait(LOOK_PERIOD)
        if due:
            self._closing.wait(GATHERING - time.monotonic() % GATHERING)
        self._wake.clear()
        if self._closing.is_set():
            return
        throttle.allow()
        self.working_since = time.monotonic()
        try:
            self._look_now(client, due)
        finally:
            self.working_since = None
            throttle.disallow()

    def _look_now(self, client: ZeoClient, due: bool) -> None:
        begun = time.monotonic()
        announced, gap = self._listener.take()
        busy, self._busy = self._busy, False
        with self._asked_lock:
            asked, self._asked = frozenset(self._asked), set()
        try:
            if not client.is_connected():
                client.wait_connected(_CONNECT_TIMEOUT)
            self._say_connected(True)
            if client.connection_number != self._connection:
                # Whoever has reconnected by itself tells nobody of the gap.
                self._connection, gap = client.connection_number, True
            if gap:
                self._see_end(client)
            if self._see(client, announced or busy, gap or not due, asked):
                self._callbacks.complete(self.storage.id, begun)
            self._refused = ""
        except HistoryChanged as error:
            self._callbacks.history_changed(
                self.storage.id, f"its record {error} is not there any more"
            )
            # Whoever is told starts another observer, on the new history.
            self._closing.set()
        except (ClientDisconnected, POSError, OSError) as error:
            self._say_connected(False, error)
            self._again(asked)
        except Exception as error:
            # A server passes on whatever its storage raises: a record of status
            # "u", a vote in progress that looks like damage.  The next look is
            # as good as the first.
            self._say_refused(error)
            self._again(asked)

    def _again(self, asked: frozenset[bytes]) -> None:
        self._listener.invalidateCache()
        with self._asked_lock:
            self._asked |= asked
        self._closing.wait(RETRY_PERIOD)

    def _see(
        self,
        client: ZeoClient,
        announced: bool,
        uncertain: bool,
        asked: frozenset[bytes],
    ) -> bool:
        """Tell what is new; is that all there was when this began?"""
        lock_time = None
        if asked or uncertain:
            lock_time = client.server_status()["lock_time"]
            self._note_lock(lock_time)
        last = self.last
        if uncertain or asked:
            last = client.last_tid()
            if last < self.last:
                self._fall_back(last)
            self._ended = min(self._ended, last)
        confirmed = True
        complete = uncertain or bool(asked)
        if announced or last > self._ended:
            room = self._callbacks.room(self.storage.id)
            if room <= 0:
                # The storage keeps the rest until what waits here is covered.
                self._again(asked)
                return False
            fetched = self._fetch(client, room, last)
            complete = fetched.complete or self._is_exhausted(fetched, last)
            # Without any record an iteration has not come to the anchor yet.
            confirmed = bool(fetched.records) or complete
            if last > self._ended and complete:
                # A server that was killed amid a vote takes the TID of that vote
                # for its last one; of others a pack has left nothing.
                self._ended = last
                self._callbacks.ended(self.storage.id, last)
        if confirmed and not self._confirmed:
            self._confirmed = True
            self._callbacks.confirmed(self.storage.id)
        if last > self._ended:
            # Not yet: an iteration may end early.
            self._again(asked)
        elif asked:
            self._callbacks.probe(Probe(self.storage.id, asked, lock_time, last))
        return complete and last <= self._ended

    def _fall_back(self, last: int) -> None:
        """The server's last TID is below one that it, or its last point, has named.

        That was the TID of an abandoned vote, where such a one is noted; of a record it
        is gone, as by a restore.

        Raises: HistoryChanged: where it was no such vote.
        """
        if self.last not in self._read_votes().values():
            raise HistoryChanged(tid.to_text(self.last))
        logger.info(
            "storage %s: %s was the TID of a vote that a killed server forgot; its last"
            " transaction is %s",
            self.storage.id,
            tid.to_text(self.last),
            tid.to_text(last),
        )
        self.last = last
        self._anchor = None

    def _read_votes(self) -> dict[int, int]:
        """{where it stood in the Data.fs, in bytes: TID} of abandoned votes that were
        noted, the last one where several stood there."""
        path = self.storage.data_file
        if path is None:
            return {}
        votes = sorted((vote.position, vote.tid) for vote in read_abandoned_votes(path))
        return dict(votes)

    def _see_end(self, client: ZeoClient) -> None:
        """Learn what a server says of its end that no record is: a vote's TID.

        It says so until it is started once more, and others stamp it meanwhile.
        """
        path = self.storage.data_file
        if path is None:
            return
        end = StorageEnd(client.last_tid(), client.size())
        if client.last_tid() != end.tid:
            # Somebody is writing: what comes behind a vote settles it.
            return
        try:
            compare_file(self.storage.id, path, end)
        except (OtherFile, FileUnreadable, OSError) as error:
            logger.warning("%s", error)
            return
        behind = self._read_votes().get(end.size, 0)
        if behind > self._vote_told:
            self._vote_told = behind
            self._callbacks.ended(self.storage.id, behind)

    def _note_lock(self, lock_time: float | None) -> None:
        """Note since when the storage is locked; its server's clock only compares."""
        if lock_time is None:
            self.locked_since = None
        elif lock_time != self._lock_time:
            self.locked_since = time.monotonic()
        self._lock_time = lock_time

    def _is_exhausted(self, fetched: Fetched, last: int) -> bool:
        """Whether nothing is there up to the last TID that the server named.

        It was named before the iteration began, so what it stood for would show.  One
        that ends amid a vote, or at a file that is being replaced, ends early: two in
        a row have to say the same.
        """
        if not fetched.exhausted or last <= self.last:
            self._exhausted_at = None
            return False
        twice = self._exhausted_at == last
        self._exhausted_at = last
        return twice

    def _fetch(self, client: ZeoClient, room: int, last: int) -> Fetched:
        fetched = fetch(
            client,
            self.last,
            anchor=self._anchor,
            expected=self._expected,
            limit=room,
            aliases=self._aliases,
            data_file=self.storage.data_file,
        )
        if fetched.packed:
            end = fetched.records[-1].tid if fetched.records else last
            self._callbacks.packed(self.storage.id, min(fetched.packed, end))
        if fetched.records:
            self._busy = True
            self._callbacks.records(self.storage.id, fetched.records)
            self.last = self._anchor = fetched.records[-1].tid
            self._ended = max(self._ended, self.last)
            self._listener.seen = tid.to_bytes(self.last)
        # At a steady rate the next call then gives all, and little else.
        self._expected = 1 + len(fetched.records) * 5 // 4
        return fetched

    def _say_refused(self, error: Exception) -> None:
        """Log what a server raised, once until it answers again or raises another."""
        what = server_errors.class_name(error)
        if what != self._refused:
            self._refused = what
            logger.warning(
                "storage %s: its server cannot tell what is new, and is asked again:"
                " %s: %s",
                self.storage.id,
                what,
                error,
            )

    def _say_connected(self, connected: bool, error: Exception | None = None) -> None:
        if connected:
            self.unobserved_since = None
        elif self.unobserved_since is None:
            self.unobserved_since = time.monotonic()
        if error is not None:
            self.unobserved_why = f"{error}" or type(error).__name__
        if connected != self.connected or (error and not self._said):
            self.connected = connected
            self._said = True
            if connected:
                logger.info("storage %s: observed", self.storage.id)
            else:
                logger.warning("storage %s: not observed: %s", self.storage.id, error)

    #: Of the client, when it was last looked at.
    _connection: int | None = None
    #: TID of the vote behind the storage's last record that was told.
    _vote_told = 0
    _said = False
    _refused = ""
