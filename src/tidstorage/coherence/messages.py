"""What may be published of storages that are known by messages only.

No I/O and no clock here: messages and times (seconds, of any one clock) go in.

A message says what a Zope meant to do and what came of it; it may be late or
lost, so nothing here is proof, and what is published is unverified.  The rule is
that of every coherent cut: of each transaction a cut holds all or nothing.

- A transaction that has begun and not ended may get, on each of its storages, any
  TID above the last one known when it began.  So nothing above that is published.
- Of one that has ended its TIDs are known.  Where its COMMIT named no TID for a
  storage it began with, its TID there lies between the last one known when it
  began and that of the next transaction that began after it ended.
- Storages that share no unpublished transaction do not wait for each other.

Only what cannot be published yet is kept.  ``_limits`` has, for each storage that
waits, the lowest TID that must not be published, so that most messages cost a few
dictionary look-ups; limits are computed anew only when a transaction ends that
made others wait.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from tidstorage.coherence.tid import Vector

#: Above any TID: not known yet.
_UNKNOWN = 1 << 64
#: Waiting transactions that are kept apart; beyond that, old ones are joined.
_KEPT_APART = 1000


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A transaction in doubt: published vectors may hold a part of it.

    storages: all it began with.  tids: {storage id: TID}, as far as the messages told.
    reason: in words.
    """

    transaction_id: str
    storages: tuple[str, ...]
    tids: Vector
    reason: str


@dataclass(slots=True, eq=False)
class _Pending:
    """A transaction that has begun and not ended.

    floors: {storage id: the last TID known when it began}.  begun: when, in seconds.
    order: rises with each message that begins or ends a transaction.
    """

    floors: dict[str, int]
    begun: float
    order: int


@dataclass(slots=True, eq=False)
class _Waiting:
    """A transaction that has ended and is not published.

    last: {storage id: TID from which on a cut holds it}; before: {storage id: TID up to
    which a cut does not hold it}.  Between the two nobody knows.  ended: when, in
    seconds.  order: see `_Pending`.
    """

    transaction_id: str
    before: dict[str, int]
    last: dict[str, int]
    ended: float
    order: int


class WireCoherency:
    """Follows BEGIN, ABORT and COMMIT, and knows what DUMP may show.

    observed: ids of storages of which messages are not needed, and not heard.
    timeout: seconds to wait for what was begun and does not end.
    published: {storage id: TID} as a former run left it, visible from the start.
    on_in_doubt: called for each transaction in doubt.
    aliases: {other name in messages: id}.

    ``visible`` is {storage id: TID}: what may be shown.  ``bootstrapped``: whether
    anything may.  Without observed storages the first end of a transaction is the
    bootstrap; with them, whoever observes them sets it.
    """

    def __init__(
        self,
        observed: Collection[str] = (),
        timeout: float = 600,
        published: Vector | None = None,
        on_in_doubt: Callable[[InDoubt], None] = lambda transaction: None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._observed = frozenset(observed)
        self._aliases = dict(aliases or {})
        self._timeout = timeout
        self._on_in_doubt = on_in_doubt
        self.visible: dict[str, int] = dict(published or {})
        self.bootstrapped = bool(self.visible)
        #: Grows whenever ``visible`` does.
        self.version = 0
        #: What may be published of each storage; visible once bootstrapped.
        self._safe = dict(self.visible)
        #: What is safe and not visible yet.
        self._fresh: dict[str, int] = {}
        #: The highest TID that any message named.
        self._last = dict(self.visible)
        #: {transaction id: ...}, the oldest first.
        self._pending: dict[str, _Pending] = {}
        #: {storage id: the same, of those that began with it}.
        self._pending_on: dict[str, dict[str, _Pending]] = {}
        self._waiting: list[_Waiting] = []
        #: {storage id: those that wait and whose TID there is not known}.
        self._incomplete: dict[str, list[_Waiting]] = {}
        #: {storage id: the lowest TID that must not be published}.
        self._limits: dict[str, int] = {}
        #: Ids of pending transactions at whose end something may be published.
        self._stopping: set[str] = set()
        self._order = 0

    # Messages

    def begin(self, transaction_id: str, storages: Collection[str], now: float) -> None:
        """Note that a transaction begins to commit on these storages."""
        if self._aliases:
            storages = {self._aliases.get(storage, storage) for storage in storages}
        if transaction_id in self._pending:
            # Its client uses an id for one transaction at a time: the former one
            # is over, its end was lost.
            self._commit(transaction_id, {}, now)
        last = self._last
        pending_on = self._pending_on
        self._order += 1
        observed = self._observed
        # Its TID on a storage will be above all that were known there before.
        pending = _Pending(
            {
                storage: last.get(storage, 0)
                for storage in storages
                if storage not in observed
            },
            now,
            self._order,
        )
        self._pending[transaction_id] = pending
        for storage in pending.floors:
            on_storage = pending_on.get(storage)
            if on_storage is None:
                on_storage = pending_on[storage] = {}
            on_storage[transaction_id] = pending

    def abort(self, transaction_id: str) -> None:
        """Note that it ended and left nothing; one that never began is passed over."""
        if self._remove(transaction_id) is not None:
            # Others that wait for nothing else may pass now.
            if transaction_id in self._stopping:
                self._compute()
            self._end()

    def commit(self, transaction_id: str, tids: Mapping[str, int], now: float) -> None:
        """Note that it ended and left these TIDs, even if its BEGIN was lost."""
        if self._aliases:
            tids = {
                self._aliases.get(storage, storage): tids[storage] for storage in tids
            }
        if self._observed:
            tids = {
                storage: tid
                for storage, tid in tids.items()
                if storage not in self._observed
            }
        self._commit(transaction_id, tids, now)
        self._end()

    def expire(self, now: float) -> None:
        """Give up waiting for what began, or ended incompletely, too long ago.

        What it may have written is published with the rest, so it is in doubt.
        """
        limit = now - self._timeout
        expired = []
        for transaction_id, pending in self._pending.items():
            if pending.begun > limit:
                # The rest began later.
                break
            expired.append(transaction_id)
        for transaction_id in expired:
            pending = self._pending[transaction_id]
            self._remove(transaction_id)
            reason = f"no end within {self._timeout:g} s of its BEGIN"
            if pending.floors:
                self._on_in_doubt(
                    InDoubt(transaction_id, tuple(pending.floors), {}, reason)
                )
        if self._expire_incomplete(limit) or expired:
            self._compute()
            if self.bootstrapped:
                self._show()

    @property
    def state(self) -> dict[str, object]:
        """For people: what is kept, and why."""
        return {
            "visible": dict(self.visible),
            "bootstrapped": self.bootstrapped,
            "not yet visible": dict(self._fresh),
            "pending": {
                transaction_id: sorted(pending.floors)
                for transaction_id, pending in self._pending.items()
            },
            "waiting": len(self._waiting),
            "held back from": dict(self._limits),
        }

    # Inside

    def _commit(self, transaction_id: str, tids: Mapping[str, int], now: float) -> None:
        pending = self._remove(transaction_id)
        self._order += 1
        last = self._last
        for storage, tid in tids.items():
            if tid > last.get(storage, 0):
                last[storage] = tid
        # Those that ended before this one began, with a TID unknown, now have a bound.
        completed = pending is not None and self._complete(pending, tids)
        if pending is not None and pending.floors.keys() - tids.keys():
            # It began with a storage that its COMMIT does not name: the TID there is
            # unknown, or it wrote nothing there.  It waits in either case.
            self._wait(self._incompletely_ended(transaction_id, pending, tids, now))
        elif tids:
            self._settle(transaction_id, tids, now)
        # Limits only rise where something that made them is gone or became known.
        if completed or transaction_id in self._stopping:
            self._compute()

    def _settle(self, transaction_id: str, tids: Mapping[str, int], now: float) -> None:
        """Publish a transaction all of whose TIDs are known, or let it wait."""
        safe = self._safe
        new = {
            storage: tid for storage, tid in tids.items() if tid > safe.get(storage, -1)
        }
        if not new:
            # What was published covers it on every storage.
            return
        # Its BEGIN was lost, or it was given up: nothing held back the later TIDs that
        # were published on a storage where its own is lower.
        if len(new) < len(tids):
            reason = "a part of it was published before its COMMIT came"
            self._on_in_doubt(InDoubt(transaction_id, tuple(tids), dict(tids), reason))
        if self._must_wait(new):
            # Here all is known: a cut holds it from its TIDs on, and not below.
            before = {storage: tid - 1 for storage, tid in new.items()}
            self._wait(_Waiting(transaction_id, before, new, now, self._order))
        else:
            safe.update(new)
            self._fresh.update(new)

    def _must_wait(self, tids: Mapping[str, int]) -> bool:
        # Limits first: behind one, nothing else has to be remembered as stopping
        # this transaction, and so nothing else is computed when that ends.
        limits = self._limits
        if limits:
            for storage, tid in tids.items():
                if storage in limits and tid >= limits[storage]:
                    return True
        for storage in tids:
            on_storage = self._pending_on.get(storage)
            if on_storage:
                self._stopping.add(next(iter(on_storage)))
                return True
        return False

    def _incompletely_ended(
        self,
        transaction_id: str,
        pending: _Pending,
        tids: Mapping[str, int],
        now: float,
    ) -> _Waiting:
        before = {storage: tid - 1 for storage, tid in tids.items()}
        # Where no TID was told, it may be the very next after the last one known when
        # it began, and it may be any one after that, until a later one bounds it.
        waiting = _Waiting(transaction_id, before, dict(tids), now, self._order)
        for storage, floor in pending.floors.items():
            if storage not in tids:
                before[storage] = floor
                waiting.last[storage] = _UNKNOWN
                self._incomplete.setdefault(storage, []).append(waiting)
        return waiting

    def _wait(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        _lower(self._limits, waiting.before)
        if len(self._waiting) > _KEPT_APART:
            self._waiting = _join_older(self._waiting)

    def _complete(self, pending: _Pending, tids: Mapping[str, int]) -> bool:
        """Bound unknown TIDs by those of a transaction that began later.

        TIDs of a storage rise in the order of its commits: whoever had ended before
        this one began has a lower one there.  So a cut that holds this one holds it.
        """
        completed = False
        for storage in self._incomplete.keys() & tids.keys():
            rest = []
            for waiting in self._incomplete[storage]:
                if waiting.order < pending.order:
                    waiting.last[storage] = tids[storage]
                    completed = True
                else:
                    rest.append(waiting)
            self._keep_incomplete(storage, rest)
        return completed

    def _keep_incomplete(self, storage: str, rest: list[_Waiting]) -> None:
        if rest:
            self._incomplete[storage] = rest
        else:
            del self._incomplete[storage]

    def _expire_incomplete(self, limit: float) -> bool:
        expired: dict[int, _Waiting] = {}
        for storage, several in list(self._incomplete.items()):
            old = [waiting for waiting in several if waiting.ended <= limit]
            expired.update((id(waiting), waiting) for waiting in old)
            self._keep_incomplete(storage, several[len(old) :])
        for waiting in expired.values():
            storages = tuple(waiting.last)
            for storage in storages:
                if waiting.last[storage] == _UNKNOWN:
                    del waiting.last[storage], waiting.before[storage]
            reason = f"no TID for all of its storages within {self._timeout:g} s"
            self._on_in_doubt(
                InDoubt(waiting.transaction_id, storages, dict(waiting.last), reason)
            )
        return bool(expired)

    def _remove(self, transaction_id: str) -> _Pending | None:
        pending = self._pending.pop(transaction_id, None)
        if pending is not None:
            for storage in pending.floors:
                on_storage = self._pending_on[storage]
                del on_storage[transaction_id]
                if not on_storage:
                    del self._pending_on[storage]
        return pending

    def _compute(self) -> None:
        """Find the limits anew, and publish what they let pass."""
        waiting = self._waiting
        limits: dict[str, int] = {}
        self._stopping = set()
        # First what has not ended: it may get any TID above its floors.  Where nothing
        # above the floor is known of a storage, there is nothing to hold back.
        for transaction_id, pending in self._pending.items():
            # Oldest first: who comes later and adds nothing is not waited for.
            bounds = {
                storage: floor
                for storage, floor in pending.floors.items()
                if self._last.get(storage, 0) > floor
            }
            if _lower(limits, bounds):
                self._stopping.add(transaction_id)
        # Then what has ended.  A transaction that does not lie below the limits on all
        # of its storages cannot be held whole, so it is not held at all: the limits
        # fall to where a cut holds none of it, which may put out others.  Each is put
        # out for good, so this ends; in whatever order, with the highest limits.
        inside = waiting
        outside: list[_Waiting] = []
        while True:
            kept = []
            for transaction in inside:
                if any(
                    tid >= limits.get(storage, _UNKNOWN)
                    for storage, tid in transaction.last.items()
                ):
                    _lower(limits, transaction.before)
                    outside.append(transaction)
                else:
                    kept.append(transaction)
            if len(kept) == len(inside):
                break
            inside = kept
        self._waiting = outside
        # What is left lies below the limits on all of its storages: it is safe.
        for transaction in inside:
            for storage, tid in transaction.last.items():
                if tid > self._safe.get(storage, -1):
                    self._safe[storage] = self._fresh[storage] = tid
        # Those of what is pending alone are found by `_must_wait` as they are needed.
        self._limits = {
            storage: limits[storage]
            for transaction in outside
            for storage in transaction.last
        }

    def _end(self) -> None:
        if self.bootstrapped:
            self._show()
        elif not self._observed:
            self.bootstrapped = True

    def _show(self) -> None:
        if self._fresh:
            self.visible.update(self._fresh)
            self._fresh.clear()
            self.version += 1


def _lower(limits: dict[str, int], before: Mapping[str, int]) -> bool:
    """Lower limits so that all above ``before`` is kept out; did that change any?"""
    lowered = False
    for storage, tid in before.items():
        if tid + 1 < limits.get(storage, _UNKNOWN):
            limits[storage] = tid + 1
            lowered = True
    return lowered


def _join_older(waiting: list[_Waiting]) -> list[_Waiting]:
    """Join the older half: those on the same storages, as if they were one.

    Coarser, and never wrong: a cut holds all of them or none.  It keeps memory
    bounded behind a transaction whose end never comes.
    """
    middle = len(waiting) // 2
    kept: dict[frozenset[str], _Waiting] = {}
    apart = []
    for one in waiting[:middle]:
        if _UNKNOWN in one.last.values():
            # Its bound may still come, and belongs to it alone.
            apart.append(one)
            continue
        group = kept.setdefault(frozenset(one.last), one)
        if group is not one:
            for storage in group.last:
                group.last[storage] = max(group.last[storage], one.last[storage])
                group.before[storage] = min(group.before[storage], one.before[storage])
    return [*kept.values(), *apart, *waiting[middle:]]
