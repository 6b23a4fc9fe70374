"""From the records that observers saw to the newest coherency point; no I/O.

Records go in as they are seen, with the time of their arrival; a point comes out
whenever more of them fit together than before.  Points only ever grow.  A half
commit, once proven, is kept and named in every point until it is acknowledged.

Proof of a half commit comes from later records (`tidstorage.coherence.cut`), or from
the server of the storage that lacks the record: a transaction that was seen on A had
voted on C before, and holds the lock of C until it finishes or aborts there.  So
when the lock of C is free, or has changed hands, after the record on A was seen,
and C still has no record of it, it never gets one.  Where a pack may have taken that
record before it was seen, nobody can tell whether the transaction is whole: it is kept,
and the points that follow are unverified until a barrier.
"""

import functools
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tidstorage.coherence.cut import CutResult, SettledRecord, coherent_cut
from tidstorage.coherence.point import HalfCommit, UnknownOutcome
from tidstorage.coherence.record import Record
from tidstorage.coherence.tid import Vector
from tidstorage.errors import UnknownStorage

#: Seconds that a transaction may lack records before its servers are asked.
PATIENCE = 0.5
#: Records of one storage that may wait for a point; see `Coherence.room`.
MOST_WAITING = 2000


@dataclass(frozen=True, slots=True)
class Probe:
    """What a server said when it was asked about transactions it may lack.

    commit_ids: those asked for.  lock_time: since when its storage is locked, by
    the server's own clock, None while it is not: only good for comparing.
    last: its last TID, read after that.  All its records up to it were added.
    """

    storage: str
    commit_ids: frozenset[bytes]
    lock_time: float | None
    last: int


@dataclass(frozen=True, slots=True)
class LostTimeline:
    """A record whose writer had seen what the server of that storage never had.

    commit_id, storage, tid: of the record.  seen: id of the other storage; bound: the
    TID, exclusive, up to which the writer had seen it; last: the last TID that its
    server, asked since, has.
    """

    commit_id: bytes
    storage: str
    tid: int
    seen: str
    bound: int
    last: int


@dataclass(frozen=True, slots=True)
class Advance:
    """A new point.

    vector: {storage id: last TID in it}.  damage: all half commits in it that nobody
    accepted.  new_damage: those of them that no former point named.
    unknown: transactions that no former point held, and that may be whole or not.
    verified: since the last barrier nothing in it comes from a writer without our
    hook, nor takes part in a storage that nobody observes, nor is unknown.
    """

    vector: Vector
    damage: tuple[HalfCommit, ...]
    new_damage: tuple[HalfCommit, ...]
    verified: bool
    unknown: tuple[UnknownOutcome, ...] = ()


@dataclass(slots=True)
class _Seen:
    """What is above the point in one storage, and when it arrived.

    records: in the order of their TIDs.  end: up to this TID no other record will
    ever come.  arrivals: (TID of the last record, time in seconds) of each lot that
    came at once.  last: TID of the last record, also where the point covers it.
    packed: up to this TID a pack may have taken records before they were seen.
    """

    records: list[Record] = field(default_factory=list)
    end: int = 0
    arrivals: deque[tuple[int, float]] = field(default_factory=deque)
    last: int = 0
    packed: int = 0


class Coherence:
    """Follows one timeline from a coherent vector on.

    vector: that vector, for all observed storages.  verified: see `Advance`.
    damage: half commits in it.  acknowledged: commit ids of those that somebody has
    accepted, which are damage no more, wherever they turn up.
    """

    def __init__(
        self,
        vector: Vector,
        *,
        verified: bool = True,
        damage: Collection[HalfCommit] = (),
        acknowledged: Collection[bytes] = (),
        retired: Collection[str] = (),
    ) -> None:
        self.vector: dict[str, int] = dict(vector)
        self.verified = verified
        #: Storages that stamps name, and that nobody observes.
        self.unknown = ""
        self.lost_timeline: dict[bytes, LostTimeline] = {}
        self._acknowledged = set(acknowledged)
        self._damage = {
            half.commit_id: half
            for half in damage
            if half.commit_id not in self._acknowledged
        }
        self._retired = frozenset(retired)
        self._seen = {storage: _Seen(last=tid) for storage, tid in self.vector.items()}
        #: Transactions that lack a record, and may still get it, as of the last cut.
        self._undecided: dict[bytes, HalfCommit] = {}
        #: What comes no more, by other proof than later records.
        self._settled: set[SettledRecord] = set()
        #: Since when a server's storage was locked when it was first asked for that.
        self._locks: dict[SettledRecord, float] = {}
        #: The vector of a barrier whose records have not all been seen yet.
        self._barrier: dict[str, int] | None = None
        #: Whether anything was added since the last cut was computed.
        self._changed = True

    def add(self, storage: str, records: Sequence[Record], now: float) -> None:
        """Take records of one storage as they were seen, in order.

        now: seconds, of any one clock.
        """
        seen = self._seen[storage]
        # After a reconnect, or from two sources, some are seen twice.
        new = [record for record in records if record.tid > seen.last]
        if not new:
            return
        self._changed = True
        seen.records += new
        seen.last = new[-1].tid
        seen.arrivals.append((seen.last, now))

    def add_end(self, storage: str, tid: int) -> None:
        """Note that no other record of the storage will ever have a TID up to this."""
        seen = self._seen[storage]
        seen.end = max(seen.end, tid)
        self._changed = True

    def add_packed(self, storage: str, tid: int) -> bool:
        """Note that a pack may have taken unseen records, up to this TID; is it news?

        Records that were added before, and what the point covers, stay what they are.
        """
        seen = self._seen[storage]
        if tid <= max(seen.packed, self.vector[storage]):
            return False
        seen.packed = tid
        self._changed = True
        return True

    def room(self, storage: str) -> int:
        """How many more records of the storage are wanted; they can wait there.

        A server that is down for hours may hold up all storages: what waits must
        not grow with that time.  A bound holds up nothing else.  Of the
        transactions that wait take one whose whole past is covered: all its
        records are the first that wait in their storages, and what it needs of
        others is covered, or it lacks a record there, for which servers are asked.
        """
        return MOST_WAITING - len(self._seen[storage].records)

    def age(self, now: float) -> float:
        """Seconds since the arrival of the oldest record that no point covers."""
        oldest = [seen.arrivals[0][1] for seen in self._seen.values() if seen.arrivals]
        return max(0.0, now - min(oldest)) if oldest else 0.0

    def waiting(self) -> int:
        """Number of records that no point covers."""
        return sum(len(seen.records) for seen in self._seen.values())

    def advance(self) -> Advance | None:
        """The new point; None where it is the last one still.

        Points only grow: the cut is computed above the last one, which is its floor.
        """
        if not self._changed:
            return None
        self._changed = False
        # Only once all records up to the barrier are here do they show what is missing.
        barrier = self._barrier_reached()
        result = self._cut()
        if barrier is not None:
            # What is proven now lets more through, so the cut is computed once more.
            self._prove_by(barrier, result)
            result = self._cut()
        # A point is told to others, and files are held against it: so it names records.
        tolerant = self._of_records(result.tolerant)
        self._undecided = {half.commit_id: half for half in result.undecided}
        new_damage = tuple(
            half
            for half in result.half_commits
            if half.commit_id not in self._damage
            and half.commit_id not in self._acknowledged
        )
        self._damage.update((half.commit_id, half) for half in new_damage)
        unknown = tuple(
            outcome
            for outcome in result.unknown
            if outcome.commit_id not in self._acknowledged
        )
        # A lock proves something of one transaction; that it waits no more ends it.
        self._locks = {
            key: lock for key, lock in self._locks.items() if key[0] in self._undecided
        }
        # Of a writer without a stamp, and of a storage that nobody observes, nobody
        # knows what it depends on: from here on points hold, but are not verified.
        if not self._stamped_between(self.vector, tolerant) or self.unknown or unknown:
            self.verified = False
        # A point that covers the whole barrier is as good as that was: what came before
        # it counts no more, whoever wrote it, and only what followed has to be stamped.
        if barrier is not None and all(
            result.tolerant[storage] >= tid for storage, tid in barrier.items()
        ):
            self.verified = self._stamped_between(barrier, tolerant)
            self._barrier = None
        elif tolerant == self.vector:
            return None
        self._keep_above(tolerant)
        return Advance(
            dict(self.vector),
            tuple(self._damage.values()),
            new_damage,
            self.verified,
            unknown,
        )

    def _cut(self) -> CutResult:
        records = {
            # Where the end is known to lie above the last record, a record without a
            # stamp stands for it.  Nothing below it will ever come, so whoever saw the
            # storage up to there saw no more than the records do.
            storage: [*seen.records, Record(seen.end)]
            if seen.end > seen.last
            else seen.records
            for storage, seen in self._seen.items()
        }
        cut = functools.partial(
            coherent_cut,
            records,
            self.vector,
            retired=self._retired,
            settled=self._settled,
            packed={storage: seen.packed for storage, seen in self._seen.items()},
        )
        try:
            result = cut()
        except UnknownStorage as error:
            # No reason to stand still: what is observed fits together all the same,
            # and the points say that they are not verified.
            self.unknown = str(error)
            return cut(partial=True)
        self.unknown = ""
        return result

    def _of_records(self, vector: Vector) -> dict[str, int]:
        """The vector, with the last record's TID where it names an end above that."""
        return {
            storage: min(tid, self._seen[storage].last)
            for storage, tid in vector.items()
        }

    def _keep_above(self, vector: Vector) -> None:
        self.vector = dict(vector)
        for storage, seen in self._seen.items():
            tid = vector[storage]
            seen.records = [record for record in seen.records if record.tid > tid]
            while seen.arrivals and seen.arrivals[0][0] <= tid:
                seen.arrivals.popleft()
        # What the point covers is not looked at again, and needs no proof any more.
        self._settled = {
            settled for settled in self._settled if settled[0] in self._undecided
        }

    # Half commits, and writers of a lost timeline

    def questions(self, now: float) -> dict[str, frozenset[bytes]]:
        """{storage id: commit ids} to ask its server for, since they wait too long."""
        asked: dict[str, set[bytes]] = {}
        if self.age(now) < PATIENCE:
            # Nearly always the other records are on their way.
            return {}
        # Of a transaction that lacks a record: does its vote still hold the lock?
        for commit_id, half in self._undecided.items():
            for storage in half.missing:
                asked.setdefault(storage, set()).add(commit_id)
        # Of one that saw more of a storage than was seen here: does the server have
        # it?  Only the first that waits can be what holds up its storage.
        for record in self._first_waiting():
            for storage, bound in record.stamp.vector.items() if record.stamp else ():
                seen = self._seen.get(storage)
                if seen is not None and bound > max(seen.last, seen.end) + 1:
                    assert record.stamp is not None
                    asked.setdefault(storage, set()).add(record.stamp.commit_id)
        return {
            storage: frozenset(commit_ids)
            for storage, commit_ids in asked.items()
            if storage in self._seen
        }

    def waits_for(self) -> list[str]:
        """Ids of the storages whose records, or answers, hold up what waits."""
        storages = {
            storage for half in self._undecided.values() for storage in half.missing
        }
        for record in self._first_waiting():
            for storage, bound in record.stamp.vector.items() if record.stamp else ():
                seen = self._seen.get(storage)
                if seen is not None and bound > max(seen.last, seen.end) + 1:
                    storages.add(storage)
        return sorted(storages)

    def _first_waiting(self) -> list[Record]:
        return [seen.records[0] for seen in self._seen.values() if seen.records]

    def answer(self, probe: Probe) -> bool:
        """Take what a server said; does it decide anything?"""
        decided = False
        for commit_id in probe.commit_ids:
            half = self._undecided.get(commit_id)
            # Its record may have come while the server was asked.
            if half is not None and probe.storage in half.missing:
                decided |= self._decide((commit_id, probe.storage), probe.lock_time)
        for storage, seen in self._seen.items():
            for record in seen.records[:1]:
                self._suspect(storage, record, probe)
        return decided

    def _decide(self, key: SettledRecord, lock_time: float | None) -> bool:
        # The transaction had voted there before it was seen elsewhere, and a vote keeps
        # the lock until it finishes or aborts.  A lock that is free now, or was taken
        # at another time than at the first asking, is not that vote's any more; and all
        # that the server had then was added before, without its record.
        if lock_time is None or self._locks.setdefault(key, lock_time) != lock_time:
            self._settled.add(key)
            self._changed = True
            return True
        return False

    def _suspect(self, storage: str, record: Record, probe: Probe) -> None:
        stamp = record.stamp
        if stamp is None or stamp.commit_id not in probe.commit_ids:
            return
        bound = stamp.vector.get(probe.storage, 0)
        # Whoever saw up to the server's last TID has the one after it as its bound.
        # More than that was never there in this timeline, but for votes that were
        # abandoned: a server says their TID for a while.
        if bound > max(probe.last, self._seen[probe.storage].end) + 1:
            self.lost_timeline[stamp.commit_id] = LostTimeline(
                stamp.commit_id,
                storage,
                record.tid,
                probe.storage,
                bound,
                probe.last,
            )

    def acknowledge(self, commit_id: bytes) -> bool:
        """Count a half commit as accepted; does the present point name it?"""
        self._acknowledged.add(commit_id)
        return self._damage.pop(commit_id, None) is not None

    def strike_out(self, commit_id: bytes) -> bool:
        """Count as whole what proved to be so; does the present point name it?"""
        return self.acknowledge(commit_id)

    def standing(self) -> Advance:
        """The present point once more, as it is after an acknowledgement."""
        return Advance(
            dict(self.vector), tuple(self._damage.values()), (), self.verified
        )

    # Barriers

    def take_barrier(self, vector: Vector) -> None:
        """Take a vector that is coherent whoever wrote; points are verified from it on.

        vector: {storage id: TID}, the last ones while all storages stood still.
        """
        self._barrier = {storage: vector[storage] for storage in self.vector}
        self._changed = True

    def _barrier_reached(self) -> dict[str, int] | None:
        if self._barrier is None:
            return None
        if all(
            max(self._seen[storage].last, self._seen[storage].end) >= tid
            for storage, tid in self._barrier.items()
        ):
            return self._barrier
        return None

    def _prove_by(self, barrier: Vector, result: CutResult) -> None:
        """Settle what some storages had while a barrier was held, and others not.

        No transaction is between two finishes then: what it lacked, it never gets.
        """
        for half in result.undecided:
            if all(tid <= barrier[storage] for storage, tid in half.present.items()):
                self._settled |= {(half.commit_id, storage) for storage in half.missing}

    def _stamped_between(self, after: Vector, vector: Vector) -> bool:
        """Whether all that waits above one vector, up to another, has a stamp."""
        return all(
            record.stamp is not None
            for storage, seen in self._seen.items()
            for record in seen.records
            if after[storage] < record.tid <= vector[storage]
        )
