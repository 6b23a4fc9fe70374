"""Where the files that a backup has copied can be cut without splitting a transaction.

What the copies hold is read from the live files, as far as the copies go: the same
bytes, uncompressed.
"""

import functools
import logging
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.coherence import tid
from tidstorage.coherence.cut import (
    CutResult,
    DeadRecord,
    Record,
    SettledRecord,
    coherent_cut,
    complete_packed_ends,
)
from tidstorage.coherence.point import HalfCommit, UnknownOutcome
from tidstorage.coherence.record import accept_half_commits
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage.files_cut import known_damage_as_dead
from tidstorage.engines.filestorage.records import records_up_to
from tidstorage.errors import FloorNeeded, UnknownStorage
from tidstorage.verbs.backup.copying import StorageCopy
from tidstorage.verbs.backup.doubt import EndInDoubt, find_doubts

logger = logging.getLogger(__name__)

_PACKED = "packed above the last known point: %s; what was torn there may show no more"
_DOUBT = (
    "storage %s: transactions saw its %s, which it does not hold; they are left out of"
    " the set. No barrier could be had that proves it was an abandoned vote: back up"
    " once more when the cluster is less busy"
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A cut, and the records above the floor that it was found by.

    verified: whether nothing speaks against building on it.  unknown: transactions in
    it of which nobody can tell whether they are whole.
    """

    records: Mapping[str, Sequence[Record]]
    vector: dict[str, int]
    strict: dict[str, int]
    half_commits: tuple[HalfCommit, ...]
    unstamped: dict[str, int]
    verified: bool
    unknown: tuple[UnknownOutcome, ...] = ()


@dataclass(frozen=True, slots=True)
class CopiedFiles:
    """The live Data.fs of every storage, as far as it was copied.

    floor: {storage id: the TID below which nothing is examined}.  accepted: commit
    ids of half commits that somebody has accepted.  known_damage: those that somebody
    has found before, and nobody has accepted.  doubted: ids of storages whose end stays
    in doubt, whatever was done.
    """

    cluster: Cluster
    copies: Mapping[str, StorageCopy]
    floor: Mapping[str, int]
    accepted: Set[bytes]
    known_damage: Sequence[HalfCommit] = ()
    doubted: Set[str] = frozenset()

    def cut_by_stamps(self) -> Cut:
        """The tolerant cut of what the copies hold.

        Raises: FloorNeeded: where a pack has taken what the stamps have to prove.
        """
        if packed := self._packed_above_floor():
            raise FloorNeeded(
                "the barrier was given up, and these storages were packed above the"
                f" last known point: {', '.join(packed)}",
                "Run the backup again when the cluster is less busy.",
            )
        copied = {
            storage.id: self._copied_records(storage)
            for storage in self.cluster.storages
        }
        records = accept_half_commits(copied, self.accepted)
        packed_up_to = self._packed()
        result = coherent_cut(
            records,
            self.floor,
            retired=self.cluster.retired,
            dead=known_damage_as_dead(self.known_damage),
            packed=packed_up_to,
        )
        doubts = find_doubts(records, self.floor, packed_up_to)
        for storage, seen in doubts.items():
            logger.warning(_DOUBT, storage, tid.to_text(seen))
        return Cut(
            records=records,
            vector=result.tolerant,
            strict=result.strict,
            half_commits=result.half_commits,
            unstamped=result.unstamped,
            # What carries no stamp may belong to anything.
            verified=not any(result.unstamped.values())
            and not result.unknown
            and not doubts,
            unknown=result.unknown,
        )

    def cut_by_barrier(self, vector: Mapping[str, int]) -> Cut:
        """The barrier's vector; what is torn in it is dead.

        While a barrier is held no transaction is between two finishes: what a
        transaction misses then will never come.  Whether it is torn is unknown where a
        pack may have taken what it misses; the barrier holds all the same.

        Raises: EndInDoubt: somebody saw of a storage what it does not hold.
        """
        records: Mapping[str, Sequence[Record]] = {
            storage.id: records_up_to(
                storage.data_file,
                self.floor[storage.id],
                vector[storage.id],
                self.cluster.aliases,
            )
            for storage in self.cluster.storages
        }
        if packed := self._packed_above_floor():
            logger.warning(_PACKED, ", ".join(packed))
        records = accept_half_commits(records, self.accepted)
        packed_up_to = self._packed()
        doubts = find_doubts(records, self.floor, packed_up_to)
        if not doubts.keys() <= self.doubted:
            raise EndInDoubt(doubts)
        cut = functools.partial(
            _cut_aloud,
            complete_packed_ends(records, packed_up_to),
            self.floor,
            self.cluster.retired,
            dead=known_damage_as_dead(self.known_damage),
            packed=packed_up_to,
        )
        # First without the barrier.  What cannot be decided yet misses a record that
        # will never come: with that for settled it is decided.
        undecided = cut(settled=()).undecided
        result = cut(
            settled={
                (half.commit_id, other) for half in undecided for other in half.missing
            }
        )
        held = dict(vector)
        _hold_back(held, result.tolerant, self.floor)
        _cover_votes(held, vector, records)
        return Cut(
            records=records,
            vector=held,
            strict={
                storage: min(last, result.strict[storage])
                for storage, last in held.items()
            },
            half_commits=result.half_commits,
            unstamped=result.unstamped,
            # Where it was held back, or a file ends before the floor, something is
            # wrong that nobody should build on.
            verified=all(held[storage] >= last for storage, last in vector.items())
            and all(last >= self.floor[storage] for storage, last in held.items()),
            unknown=result.unknown,
        )

    def _packed(self) -> dict[str, int]:
        """{storage id: TID up to which records above the floor may be packed away}."""
        return {
            storage.id: filestorage.packed_up_to(
                storage.data_file, self.floor[storage.id]
            )
            for storage in self.cluster.storages
        }

    def _packed_above_floor(self) -> list[str]:
        """Ids of the storages of which a pack has taken records above the floor."""
        return [
            storage.id
            for storage in self.cluster.storages
            if filestorage.packed_above(storage.data_file, self.floor[storage.id])
        ]

    def _copied_records(self, storage: Storage) -> list[Record]:
        """What the copy of a storage holds above the floor."""
        return records_up_to(
            storage.data_file,
            self.floor[storage.id],
            None,
            self.cluster.aliases,
            self.copies[storage.id].end,
        )


def _cover_votes(
    held: dict[str, int],
    vector: Mapping[str, int],
    records: Mapping[str, Sequence[Record]],
) -> None:
    """Let the vector cover a vote that was abandoned behind a storage's last record.

    Others may have seen its TID, and nothing lies between that and the record.
    """
    for storage, last in vector.items():
        behind = records[storage][-1].tid if records[storage] else 0
        if held[storage] == last < behind:
            held[storage] = behind


def _hold_back(
    vector: dict[str, int], coherent: Mapping[str, int], floor: Mapping[str, int]
) -> None:
    """Lower the vector where a record saw what its storage never had.

    No instant can look like that: a process has been running since before a
    restore, and commits what it knows of a timeline that is lost.
    """
    for storage, last in coherent.items():
        if vector[storage] < floor[storage]:
            logger.warning(
                "storage %s ends before the last known point: restored by hand?",
                storage,
            )
        elif last < vector[storage]:
            logger.warning(
                "storage %s holds transactions that saw what is not there: is a Zope"
                " still running that was started before a restore? The set ends"
                " before them, at %s",
                storage,
                tid.to_text(last),
            )
            vector[storage] = last


def _cut_aloud(
    records: Mapping[str, Sequence[Record]],
    floor: Mapping[str, int],
    retired: frozenset[str],
    *,
    dead: Collection[DeadRecord],
    settled: Collection[SettledRecord],
    packed: Mapping[str, int],
) -> CutResult:
    """The coherent cut; stamps that name unknown storages are passed over aloud.

    The barrier's vector does not rest on stamps: what is wrong with them is no
    reason to go without a backup.
    """
    cut = functools.partial(
        coherent_cut,
        records,
        floor,
        retired=retired,
        dead=dead,
        settled=settled,
        packed=packed,
    )
    try:
        return cut()
    except UnknownStorage as error:
        logger.warning("%s", error)
        return cut(partial=True)
