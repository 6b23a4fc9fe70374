"""First phase of a restore: which set, and up to where.

The policy of half commits: by default the newest set without one is taken; where
a newer set has some, nobody but the operator can choose what to lose.  Those that
somebody accepted, before the set was made or since, do not count.
"""

import datetime
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import (
    Damaged,
    NoSuchSet,
    NotCoherent,
    NotReachable,
    SetUnreadable,
    WrongTime,
)
from tidstorage.points import accepted as acceptance
from tidstorage.sets import renaming
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock
from tidstorage.system.clock import in_both, local, span
from tidstorage.verbs.moments.goal import Goal, find_set_for_moment, find_set_for_point
from tidstorage.verbs.moments.known import KnownPoints, read_known_points
from tidstorage.verbs.restore.certainty import (
    describe_passed_over,
    refuse_newer_unknown,
    refuse_unsound,
)
from tidstorage.verbs.restore.explain import explain_choices, say_strict_loss

logger = logging.getLogger(__name__)

Policy = Literal["clean", "strict", "tolerant"]
LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asks for.

    set_id: a set by its id.  point_id: a point by its id, or "latest".  moment:
    a time in UTC instead; with a set, that set cut there.  timeline: which one the
    moment is of; None: the one that was lived then.  policy: "strict" leaves out
    half commits and all that follows them, "tolerant" keeps them, "clean" refuses
    where there are any.  storages: ids of those to restore; None: all.  reuse: cut
    the present files where they begin with what the set holds, instead of putting
    them together anew.  adopt: whatever history the backups are of.
    """

    set_id: str | None = None
    point_id: str = LATEST
    policy: Policy = "clean"
    moment: datetime.datetime | None = None
    timeline: int | None = None
    storages: frozenset[str] | None = None
    reuse: bool = False
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The set to restore, in the ids of now, and how to cut it.

    directory: what the set is in.  goal: None: at its own point.  accepted: half
    commits that somebody accepted.  renamed: {id in the set: present id} of storages
    that had another name then.  passed_over: why newer sets were not taken, in
    words.  storages: ids of those to restore; None: all.
    """

    directory: BackupDirectory
    manifest: Manifest
    goal: Goal | None
    policy: Policy
    accepted: Collection[bytes]
    renamed: Mapping[str, str]
    passed_over: tuple[str, ...] = ()
    storages: frozenset[str] | None = None


def choose(cluster: Cluster, request: Request) -> Choice:
    """The set to restore, as it is to be taken since half commits were accepted.

    Raises:
      NoSuchSet: there is no such set, or none that is whole.
      SetUnreadable: nobody can tell whether there is, or whether it is whole.
      NotCoherent: the set that is asked for is not whole.
      NotReachable: no set holds the moment or point that is asked for.
      Damaged: the set holds half commits, and the operator has to choose.
      BackupDirectoryLost: the backup directory is another one than before.
      OtherHistory: it is another cluster's.
    """
    directory = BackupDirectory.open(cluster, adopt=request.adopt)
    try:
        return _choose(cluster, directory, request)
    except (NoSuchSet, NotReachable) as error:
        # What could not be read may be just what is asked for.
        if request.set_id is None:
            for unread in directory.unread_manifests().values():
                raise SetUnreadable(f"{error}; but {unread}", _OTHERS) from error
        raise


def _choose(cluster: Cluster, directory: BackupDirectory, request: Request) -> Choice:
    accepted = acceptance.commit_ids(cluster)
    if request.set_id is None:
        candidates = [
            _accepting(backup_set, accepted) for backup_set in directory.sets()
        ]
    else:
        # On a disk that fails, a set that is named may be all that can be read.
        candidates = [_accepting(directory.set(request.set_id), accepted)]
    exact = [
        backup_set
        for backup_set in candidates
        if backup_set.manifest.point.id == request.point_id
    ]
    is_of_set = request.set_id is not None or request.point_id == LATEST
    goal = None
    if request.moment is None and (is_of_set or exact):
        chosen = exact[0] if exact else _newest(candidates, request, directory.path)
        if request.set_id is None and not exact:
            refuse_newer_unknown(directory, chosen.manifest.id)
        then = refuse_unsound(chosen, is_named=request.set_id is not None).manifest
        manifest = renaming.rename_storages(then, cluster.aliases)
        if manifest.point.damage and request.policy == "clean":
            others = [
                _accepting(backup_set, accepted) for backup_set in directory.sets()
            ]
            raise Damaged(_explain(manifest, others), _CHOICE)
    else:
        known = read_known_points(cluster, directory, accepted)
        manifest, goal = _aim(known, [*_of_now(candidates, cluster.aliases)], request)
        if request.storages is not None:
            goal = goal.of_known_point()
        (then,) = (
            backup_set.manifest
            for backup_set in candidates
            if backup_set.manifest.id == manifest.id
        )
    return Choice(
        directory,
        manifest,
        goal,
        request.policy,
        accepted,
        renaming.find_renamed(then, cluster.aliases),
        () if goal else describe_passed_over(directory, manifest.id),
        request.storages,
    )


def _aim(
    known: KnownPoints, sets: Sequence[BackupSet], request: Request
) -> tuple[Manifest, Goal]:
    if request.moment is None:
        return find_set_for_point(known, sets, request.point_id)
    if request.moment > clock.now():
        raise WrongTime(f"{in_both(request.moment)} is yet to come")
    return find_set_for_moment(known, sets, request.moment, request.timeline)


def _of_now(
    sets: Sequence[BackupSet], aliases: Mapping[str, str]
) -> Iterator[BackupSet]:
    """The sets in the ids of now; those that have none are passed over."""
    for backup_set in sets:
        try:
            yield replace(
                backup_set,
                manifest=renaming.rename_storages(backup_set.manifest, aliases),
            )
        except NotCoherent as error:
            logger.warning("%s", error)


_OTHERS = "See to the disk and try again, or choose another set (bin/cluster backups)."
_CHOICE = (
    "Give --strict, --tolerant, or the id of another set with --set; or accept the"
    " half commits (bin/cluster damage)."
)


def _accepting(backup_set: BackupSet, accepted: Collection[bytes]) -> BackupSet:
    """The set without the damage that was accepted since it was made.

    Where other damage is left, its strict cut stays where it was: before all.
    """
    made = backup_set.manifest
    damage = tuple(half for half in made.point.damage if half.commit_id not in accepted)
    if len(damage) == len(made.point.damage):
        return backup_set
    since = {half.commit_id for half in made.point.damage if half not in damage}
    manifest = replace(
        made,
        point=replace(made.point, damage=damage),
        strict=made.strict if damage else dict(made.point.vector),
        strict_loss=made.strict_loss if damage else None,
        acknowledged=tuple(sorted({*made.acknowledged, *since})),
    )
    return replace(backup_set, manifest=manifest)


def _newest(sets: Sequence[BackupSet], request: Request, directory: Path) -> BackupSet:
    """The set that is asked for by its id, else the newest that is not broken.

    Also one of which nobody knows whether it is whole: to pass it over would drop
    what it may hold.
    """
    if request.set_id is not None:
        return sets[0]
    of_timeline = [
        backup_set
        for backup_set in sets
        if not backup_set.faults
        and request.timeline in (None, backup_set.manifest.point.timeline)
    ]
    if not of_timeline:
        of = "" if request.timeline is None else f" of timeline {request.timeline}"
        raise NoSuchSet(f"there is no whole backup set{of} in {directory}")
    return of_timeline[0]


def _explain(damaged: Manifest, sets: Sequence[BackupSet]) -> str:
    """What each choice loses."""
    made = damaged.point
    choices = [
        f"--tolerant keeps everything up to {local(made.time)}, half commits too",
        _say_strict(damaged),
    ]
    clean = next(
        (
            backup_set.manifest
            for backup_set in sets
            if backup_set.is_whole and not backup_set.manifest.point.damage
        ),
        None,
    )
    if clean is not None:
        choices.append(
            f"--set {clean.id} loses all since {local(clean.point.time)},"
            f" {span(made.time - clean.point.time)}"
        )
    return explain_choices(f"set {damaged.id} holds", made.damage, choices)


def _say_strict(damaged: Manifest) -> str:
    """What --strict loses, or that the set's copies cannot be cut so far back."""
    packed = [
        storage.id
        for storage in damaged.storages
        if (storage.packed or 0) > damaged.strict.get(storage.id, 0)
    ]
    if packed:
        return (
            f"--strict cannot be had of this set: {', '.join(packed)} was packed above"
            " what is left then"
        )
    return say_strict_loss(damaged.strict_loss, damaged.point.time)


def as_of(manifest: Manifest, policy: Policy) -> datetime.datetime:
    """The moment in UTC whose state a restore of the set brings back."""
    loss = manifest.strict_loss
    return loss.since if policy == "strict" and loss else manifest.point.time
