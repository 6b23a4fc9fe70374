"""First phase of a restore: which set, and up to where.

The policy of half commits: by default the newest set without one is taken; where
a newer set has some, nobody but the operator can choose what to lose.  Those that
somebody accepted, before the set was made or since, do not count.
"""

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tidstorage import acceptance
from tidstorage.backup import directory as backup_directory
from tidstorage.backup import sets
from tidstorage.backup.sets import BackupSet
from tidstorage.cluster import Cluster
from tidstorage.errors import Damaged, NoSuchSet, NotCoherent
from tidstorage.local_time import local, span
from tidstorage.manifest import Manifest

Policy = Literal["clean", "strict", "tolerant"]
LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asks for.

    set_id: a set by its id.  point_id: a set by its point's id, or "latest".
    policy: "strict" leaves out half commits and all that follows them,
    "tolerant" keeps them, "clean" refuses where there are any.
    """

    set_id: str | None = None
    point_id: str = LATEST
    policy: Policy = "clean"


def choose(cluster: Cluster, request: Request) -> Manifest:
    """The set to restore, as it is to be taken since half commits were accepted.

    NoSuchSet, NotCoherent, Damaged or BackupDirectoryLost.
    """
    directory = backup_directory.known(cluster)
    accepted = acceptance.commit_ids(cluster)
    if request.set_id is not None:
        chosen = _accepting(sets.by_id(directory, request.set_id), accepted)
    else:
        chosen = _newest(_every(directory, accepted), request.point_id, directory)
    if not chosen.is_whole:
        raise NotCoherent(
            f"set {chosen.manifest.id} is not whole: {'; '.join(chosen.faults)}",
            "Choose another one (bin/cluster backups).",
        )
    if chosen.manifest.point.damage and request.policy == "clean":
        raise Damaged(_explain(chosen.manifest, _every(directory, accepted)), _CHOICE)
    return chosen.manifest


_CHOICE = (
    "Give --strict, --tolerant, or the id of another set with --set; or accept the"
    " half commits (bin/cluster damage)."
)


def _every(directory: Path, accepted: Collection[bytes]) -> list[BackupSet]:
    return [_accepting(each, accepted) for each in sets.every(directory)]


def _accepting(found: BackupSet, accepted: Collection[bytes]) -> BackupSet:
    """The set without the damage that was accepted since it was made.

    Where other damage is left, its strict cut stays where it was: before all.
    """
    made = found.manifest
    damage = tuple(half for half in made.point.damage if half.commit_id not in accepted)
    if len(damage) == len(made.point.damage):
        return found
    since = {half.commit_id for half in made.point.damage if half not in damage}
    manifest = replace(
        made,
        point=replace(made.point, damage=damage),
        strict=made.strict if damage else made.point.vector,
        strict_loss=made.strict_loss if damage else None,
        acknowledged=tuple(sorted({*made.acknowledged, *since})),
    )
    return replace(found, manifest=manifest)


def _newest(found: Sequence[BackupSet], point_id: str, directory: Path) -> BackupSet:
    if point_id != LATEST:
        found = [each for each in found if each.manifest.point.id == point_id]
        if not found:
            raise NoSuchSet(f"no set in {directory} has the point {point_id}")
        return found[0]
    whole = [each for each in found if each.is_whole]
    if not whole:
        raise NoSuchSet(f"there is no whole backup set in {directory}")
    return whole[0]


def _explain(damaged: Manifest, found: Sequence[BackupSet]) -> str:
    """What each choice loses."""
    point = damaged.point
    lines = [
        f"set {damaged.id} holds {len(point.damage)} half commit(s):"
        " transactions that some storages hold and others never will",
        *(
            f"  {half.commit_id.hex()}: in {', '.join(sorted(half.present))};"
            f" not in {', '.join(sorted(half.missing))}"
            for half in point.damage
        ),
        f"--tolerant keeps everything up to {local(point.time)}, half commits too",
    ]
    loss = damaged.strict_loss
    lines.append(
        f"--strict loses {loss.transactions} transaction(s) since"
        f" {local(loss.since)}, {span(point.time - loss.since)}"
        if loss
        else "--strict loses nothing else"
    )
    clean = next(
        (
            each.manifest
            for each in found
            if each.is_whole and not each.manifest.point.damage
        ),
        None,
    )
    if clean is not None:
        lines.append(
            f"--set {clean.id} loses all since {local(clean.point.time)},"
            f" {span(point.time - clean.point.time)}"
        )
    return "\n".join(lines)


def as_of(manifest: Manifest, policy: Policy) -> datetime.datetime:
    """The moment in UTC whose state a restore of the set brings back."""
    loss = manifest.strict_loss
    return loss.since if policy == "strict" and loss else manifest.point.time
