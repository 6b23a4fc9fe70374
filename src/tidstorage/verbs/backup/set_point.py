"""Third phase of a backup: the coherency point K of the set, and what is torn in it."""

import datetime
import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from ZEO.Exceptions import ClientDisconnected

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.coherence.loss import Loss, count_loss
from tidstorage.coherence.point import HalfCommit, Point, UnknownOutcome
from tidstorage.coherence.record import commit_ids
from tidstorage.engines import filestorage
from tidstorage.errors import BarrierFailed, DataFileLost, NotConnected
from tidstorage.points import accepted as acceptance
from tidstorage.points import server_ends
from tidstorage.points.server_ends import OtherFile
from tidstorage.system import clock
from tidstorage.verbs.backup.copy_anew import CopyAnew
from tidstorage.verbs.backup.copying import StorageCopy
from tidstorage.verbs.backup.known_damage import find_known_damage
from tidstorage.verbs.backup.prepare import Preparation
from tidstorage.verbs.backup.set_cut import CopiedFiles
from tidstorage.zeo import barrier
from tidstorage.zeo.barrier import Instant, StorageEnd
from tidstorage.zeo.storage_ends import read_ends

logger = logging.getLogger(__name__)

_ATTEMPTS = 3
#: Before everything.
_LONG_AGO = datetime.datetime.fromtimestamp(0, datetime.UTC)


@dataclass(frozen=True, slots=True)
class Barrier:
    """What a barrier answered before the copies were made.

    held: all storages while they stood still; None where the barrier was given up.
    begun: a moment before any file was copied.  finished: {storage id: TID}; all that
    was acknowledged by that moment is no later.
    inodes: {storage id: of the Data.fs}.  compared: whether that is known to be the
    file that its server writes.
    """

    held: Instant | None
    begun: datetime.datetime
    finished: Mapping[str, int]
    inodes: Mapping[str, int]
    compared: bool


@dataclass(frozen=True, slots=True)
class SetPoint:
    """The point of a set, with the half commits within, and the strict cut.

    strict: the cut that leaves half commits out.  strict_loss: what it drops.
    unstamped: {storage id: records above the floor that carry no stamp}.
    acknowledged: half commits above the floor that somebody has accepted.
    unknown: transactions of which nobody can tell whether they are whole.
    whole: {commit id: its records} of what was called a half commit, and is none.
    """

    point: Point
    strict: dict[str, int]
    strict_loss: Loss | None
    unstamped: dict[str, int]
    acknowledged: tuple[bytes, ...]
    unknown: tuple[UnknownOutcome, ...] = ()
    whole: Mapping[bytes, Mapping[str, int]] = field(default_factory=dict)


def take_barrier(cluster: Cluster) -> Barrier:
    """What all storages end with at this instant, or that nobody can tell.

    Raises:
      DataFileLost: a server writes another file than the one of that name.
      FileUnreadable: a Data.fs cannot be read.
    """
    reason = ""
    for _ in range(_ATTEMPTS):
        held: Instant | None = None
        try:
            held = barrier.take_instant(barrier.storages_of(cluster))
            ends, begun, finished = held.ends, held.time, held.vector
        except BarrierFailed as error:
            logger.warning("%s; the point of the set is found by stamps instead", error)
            ends = _read_ends(cluster)
            begun = clock.now()
            # A transaction is in its file before anybody is told that it is finished.
            finished = {
                storage.id: filestorage.last_tid(storage.data_file)
                for storage in cluster.storages
            }
        try:
            inodes = server_ends.compare_files(cluster, ends)
            return Barrier(held, begun, finished, inodes, bool(ends))
        except OtherFile as error:
            # Unless a pack came in between it says the same again.
            reason = str(error)
    raise DataFileLost(
        reason,
        "Was the file restored, copied or moved while the server ran? Stop the server"
        " before anything else: the file that it writes is gone once it ends, unless"
        " it has another name. bin/cluster restore brings back what was backed up.",
    )


def _read_ends(cluster: Cluster) -> Mapping[str, StorageEnd]:
    try:
        return read_ends(cluster)
    except (NotConnected, ClientDisconnected) as error:
        logger.warning("nobody can say which files the servers write: %s", error)
        return {}


def choose_set_point(
    preparation: Preparation,
    taken: Barrier,
    copies: Mapping[str, StorageCopy],
    doubted: Set[str] = frozenset(),
) -> SetPoint:
    """The point that the copies can be cut back to.

    It is the vector of the barrier; where the barrier was given up, the coherent cut
    of what the copies hold.  copies: {storage id: copy}, made after the barrier.
    doubted: ids of storages whose end stays in doubt, whatever was done.

    Raises:
      CopyAnew: a copy cannot be cut back to the point.
      EndInDoubt: others saw of a storage what it does not hold.
      FloorNeeded: without a barrier, and packed above the last known point.
      UnknownStorage: without a barrier, and a stamp names a storage that the
        description does not know.
      FileUnreadable: a Data.fs cannot be read.
    """
    cluster = preparation.cluster
    # By now all is copied: nothing in the copies was committed later.
    copied = clock.now()
    accepted = acceptance.commit_ids(cluster)
    known = find_known_damage(
        cluster, preparation.previous, preparation.timeline, accepted
    )
    files = CopiedFiles(
        cluster,
        copies,
        _known_floor(cluster, preparation.floor),
        accepted | known.whole.keys(),
        known.standing,
        doubted,
    )
    if taken.held is None:
        cut = files.cut_by_stamps()
    else:
        cut = files.cut_by_barrier(taken.held.vector)
    for storage in cluster.storages:
        if copies[storage.id].inode != taken.inodes[storage.id]:
            raise CopyAnew(f"{storage.data_file} was replaced before it was copied")
        _refuse_uncuttable(storage, copies[storage.id], cut.vector[storage.id])
    _say_unknown(cut.unknown)
    seen = {half.commit_id for half in cut.half_commits}
    carried = [
        half
        for half in known.standing
        if half.commit_id not in seen and _is_within(half, cut.vector)
    ]
    strict = cut.strict if cut.half_commits else cut.vector
    if carried:
        strict = _leave_out(preparation, files.floor, strict)
    return SetPoint(
        point=Point(
            vector=cut.vector,
            time=copied if taken.held is None else taken.held.time,
            source="stamps" if taken.held is None else "barrier",
            timeline=preparation.timeline,
            verified=cut.verified and taken.compared,
            damage=(*cut.half_commits, *carried),
            complete_until=_complete_until(preparation, taken, cut.vector),
            skew={} if taken.held is None else taken.held.skew,
        ),
        strict=strict,
        strict_loss=count_loss(cut.records, strict, cut.vector),
        unstamped=cut.unstamped,
        acknowledged=tuple(sorted(files.accepted & commit_ids(cut.records))),
        unknown=cut.unknown,
        whole=known.whole,
    )


def _complete_until(
    preparation: Preparation, taken: Barrier, vector: Mapping[str, int]
) -> datetime.datetime:
    """Up to when all that was acknowledged is below a vector that was found."""
    if all(vector[storage] >= last for storage, last in taken.finished.items()):
        return taken.begun
    # It leaves out what was finished before.  What the floor has it has, too.
    floor = preparation.floor
    return floor.complete if floor is not None else _LONG_AGO


def _say_unknown(outcomes: Sequence[UnknownOutcome]) -> None:
    if outcomes:
        unseen = sorted({storage for each in outcomes for storage in each.unseen})
        logger.warning(
            "%d transaction(s) of the set may be whole or not: what %s held of them may"
            " have been packed away; the first is %s",
            len(outcomes),
            ", ".join(unseen),
            outcomes[0].commit_id.hex(),
        )


def _is_within(half: HalfCommit, vector: Mapping[str, int]) -> bool:
    """Whether a cut keeps a record of it, or what became of that in a pack."""
    return any(last <= vector.get(storage, 0) for storage, last in half.present.items())


def _leave_out(
    preparation: Preparation, floor: Mapping[str, int], strict: Mapping[str, int]
) -> dict[str, int]:
    """The strict cut, lowered to one without what the records do not show any more.

    The former set knew how to leave it out; the floor does anyway.  What is in both of
    two coherent cuts is one as well.
    """
    previous = preparation.previous
    lower = floor
    if (
        previous is not None
        and previous.point.damage
        and previous.point.timeline == preparation.timeline
    ):
        lower = preparation.cluster.present_ids(previous.strict)
    return {
        storage: min(last, lower.get(storage, 0)) for storage, last in strict.items()
    }


def _known_floor(cluster: Cluster, floor: Point | None) -> dict[str, int]:
    """The floor for every storage; 0 where nothing is known."""
    known = cluster.present_ids(floor.vector) if floor else {}
    return {storage.id: known.get(storage.id, 0) for storage in cluster.storages}


def _refuse_uncuttable(storage: Storage, copy: StorageCopy, last: int) -> None:
    """Refuse a copy that cannot be cut behind the TID ``last``.

    The live file is the one that was copied, unless a pack came in between; the
    copy then ends elsewhere, or holds records that the pack has changed.

    Raises: CopyAnew: where it cannot.
    """
    if filestorage.position_after(storage.data_file, last) > copy.end:
        raise CopyAnew(f"the copy of storage {storage.id} ends before the set's point")
    if filestorage.packed_above(storage.data_file, last):
        raise CopyAnew(f"storage {storage.id} was packed above the set's point")
