"""Coherent cuts and half commits straight from their definitions, by enumeration.

Nothing of ours is imported.  A record is any object with ``tid`` and ``stamp``
(None, or an object with ``commit_id``, ``participants`` and ``vector``); records
are given as {storage: list in the order of TIDs}.  Slow on purpose: every
combination of prefixes is tried.
"""

import itertools
import math


def combinations(records, floor):
    """How many cuts there are to try."""
    return math.prod(
        1 + sum(each.tid > floor.get(storage, 0) for each in held)
        for storage, held in records.items()
    )


class Oracle:
    """One set of records; ``retired`` counts only where it is not given.

    packed: {storage: TID}; above the floor and up to it a pack may have taken records.
    """

    def __init__(self, records, floor, retired=(), partial=False, packed=None):
        self.records = records
        self.floor = {storage: floor.get(storage, 0) for storage in records}
        self.packed = {
            storage: tid
            for storage, tid in (packed or {}).items()
            if tid > self.floor[storage]
        }
        self.retired = set(retired) - set(records)
        self.partial = partial
        # The shortest prefix a cut may have: all that is trusted.
        self.least = {
            storage: sum(each.tid <= self.floor[storage] for each in held)
            for storage, held in records.items()
        }

        #: {commit id: {storage: positions of its records}}.
        self.places = {}
        for storage, held in records.items():
            for position, each in enumerate(held):
                if each.stamp:
                    places = self.places.setdefault(each.stamp.commit_id, {})
                    places.setdefault(storage, []).append(position)

    def vector(self, lengths):
        """{storage: TID of the last record kept, or the floor}."""
        return {
            storage: max(
                self.floor[storage],
                self.records[storage][length - 1].tid if length else 0,
            )
            for storage, length in lengths.items()
        }

    def participants(self, stamp):
        """The storages that have to hold a record of it, as far as we know."""
        named = set(stamp.participants) | self.places[stamp.commit_id].keys()
        return {each for each in named if each in self.records or not self.partial} - (
            self.retired
        )

    def missing(self, stamp):
        """The participants without a record."""
        return self.participants(stamp) - self.places[stamp.commit_id].keys()

    def allows(self, record, other, length, excused):
        """May a kept record go with that many records kept of one storage?

        excused: pairs (commit id, storage) whose absence does not count.
        """
        stamp = record.stamp
        held = self.records[other]
        if other in self.participants(stamp):
            partners = self.places[stamp.commit_id].get(other, ())
            if not partners and (stamp.commit_id, other) not in excused:
                return False
            if any(position >= length for position in partners):
                return False
        bound = stamp.vector.get(other)
        if bound is None:
            return True
        if length < len(held):
            return held[length].tid >= bound
        end = max(self.floor[other], held[-1].tid if held else 0)
        return end >= bound - 1

    def coherent_cuts(self, excused=frozenset()):
        """Every coherent cut, as {storage: number of records kept}."""
        storages = list(self.records)
        # allowed[X, n, Y]: how many of Y may be kept with the first n of X.
        allowed = {}
        for storage, other in itertools.product(storages, storages):
            possible = set(range(self.least[other], len(self.records[other]) + 1))
            least = self.least[storage]
            allowed[storage, least, other] = possible
            for position in range(least, len(self.records[storage])):
                record = self.records[storage][position]
                if record.stamp is not None:
                    possible = {
                        length
                        for length in possible
                        if self.allows(record, other, length, excused)
                    }
                allowed[storage, position + 1, other] = possible
        choices = [
            range(self.least[each], len(self.records[each]) + 1) for each in storages
        ]
        for lengths in itertools.product(*choices):
            cut = dict(zip(storages, lengths, strict=True))
            if all(
                cut[other] in allowed[storage, length, other]
                for storage, length in cut.items()
                for other in storages
            ):
                yield cut

    def greatest(self, excused=frozenset(), until=None):
        """The greatest coherent cut, as a vector; it has to be one of them.

        until: {storage: TID}; no record above it may be kept but by the floor.
        """
        most = {
            storage: max(
                self.least[storage],
                sum(each.tid <= until.get(storage, math.inf) for each in held),
            )
            for storage, held in self.records.items()
            if until is not None
        }
        found = [
            cut
            for cut in self.coherent_cuts(excused)
            if all(cut[each] <= length for each, length in most.items())
        ]
        union = {each: max(cut[each] for cut in found) for each in self.records}
        assert union in found, "the union of coherent cuts is not coherent"
        return self.vector(union)

    def pasts(self):
        """{commit id or (storage, position) of an unstamped record: its past}."""
        nodes = {}
        for storage, held in self.records.items():
            for position in range(self.least[storage], len(held)):
                node = _node(storage, position, held[position])
                nodes.setdefault(node, []).append((storage, position))
        direct = {node: set() for node in nodes}
        for node, places in nodes.items():
            for storage, position in places:
                held = self.records[storage]
                for earlier in range(self.least[storage], position):
                    direct[node].add(_node(storage, earlier, held[earlier]))
                stamp = held[position].stamp
                for other, bound in stamp.vector.items() if stamp else ():
                    for seen in range(
                        self.least.get(other, 0), len(self.records.get(other, ()))
                    ):
                        if self.records[other][seen].tid < bound:
                            direct[node].add(
                                _node(other, seen, self.records[other][seen])
                            )
        pasts = {}
        for node in nodes:
            reached, todo = set(), [node]
            while todo:
                for earlier in direct[todo.pop()] - reached:
                    reached.add(earlier)
                    todo.append(earlier)
            pasts[node] = reached
        return pasts

    def dead(self):
        """The pairs (commit id, storage) proven never to get their record."""
        pasts = self.pasts()
        proven = set()
        for stamp in self.examined().values():
            for storage in self.missing(stamp):
                held = self.records[storage]
                for position in range(self.least[storage], len(held)):
                    node = _node(storage, position, held[position])
                    if stamp.commit_id in pasts[node]:
                        proven.add((stamp.commit_id, storage))
        return proven

    def unseen(self, stamp):
        """The storages where its record may have been, and been packed away."""
        return {
            storage
            for storage in self.missing(stamp)
            if storage in self.packed
            and stamp.vector.get(storage, 0) <= self.packed[storage]
        }

    def unknown(self, proven, settled):
        """{commit id: storages}: what ended, and may be whole for all anybody knows."""
        return {
            commit_id: self.missing(stamp)
            for commit_id, stamp in self.examined().items()
            if (missing := self.missing(stamp))
            and {(commit_id, each) for each in missing} <= settled
            and missing == self.unseen(stamp)
            and not {(commit_id, each) for each in missing} & proven
        }

    def examined(self):
        """{commit id: stamp} of the records above the floor."""
        return {
            each.stamp.commit_id: each.stamp
            for storage, held in self.records.items()
            for each in held[self.least[storage] :]
            if each.stamp
        }

    def half_commits(self, vector, proven, settled=frozenset()):
        """{commit id: (TIDs, missing)} of half commits above the floor, inside.

        settled: what ended, of which absence proves something where all was read.
        """
        found = {}
        for commit_id, stamp in self.examined().items():
            missing = self.missing(stamp)
            present = {
                storage: each.tid
                for storage, held in self.records.items()
                for each in held
                if each.stamp and each.stamp.commit_id == commit_id
            }
            inside = all(tid <= vector[storage] for storage, tid in present.items())
            pairs = {(commit_id, each) for each in missing}
            dead = {
                each
                for each in missing
                if each not in self.unseen(stamp) or (commit_id, each) in proven
            }
            if dead and inside and pairs <= proven | settled:
                found[commit_id] = (present, dead)
        return found


def _node(storage, position, record):
    return record.stamp.commit_id if record.stamp else (storage, position)
