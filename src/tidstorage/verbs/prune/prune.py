"""A whole prune: which sets go, in what order, and what a killed run left.

A set ends with its manifest: that is renamed aside first, so that the set is no
set for anybody any more.  Only then its files go, and the renamed manifest last:
it tells the next run what to remove, wherever this one was killed.
"""

import contextlib
import logging
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster, Retention
from tidstorage.errors import EngineFailed, NotCoherent, SetUnreadable
from tidstorage.operation import lock, results
from tidstorage.operation.unfinished import refuse_unfinished
from tidstorage.sets import manifest, repozo
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.manifest import Manifest
from tidstorage.system import durable, presence
from tidstorage.verbs.prune.freeing import Freed, find_freed
from tidstorage.verbs.prune.last_copies import find_last_copies
from tidstorage.verbs.prune.retention import Candidate, choose_kept

logger = logging.getLogger(__name__)

#: What a manifest is renamed to when its set goes.
ASIDE = "pruned.json"


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """Which sets go and which stay: shown, or performed.

    removed: the sets that go, oldest first.  begun: {folder: manifest} of sets that
    a run which was killed had begun to remove.  kept: {set id: why it stays}.
    frees: what only the sets that go needed.  unknown: {set id: why nobody knows
    whether it is whole}; they are all kept, and count for nothing.
    """

    removed: Sequence[BackupSet]
    begun: Mapping[Path, Manifest]
    kept: Mapping[str, tuple[str, ...]]
    frees: Freed
    unknown: Mapping[str, str]

    @property
    def exit_status(self) -> int:
        """0; that of `SetUnreadable` where nobody knows of a set if it is whole."""
        return SetUnreadable.exit_status if self.unknown else 0

    @property
    def ended(self) -> list[str]:
        """Ids of the sets whose removal was begun before."""
        return [folder.name for folder in self.begun]


def plan(cluster: Cluster, retention: Retention | None = None) -> PrunePlan:
    """Which sets the retention does not keep, and what only they need.

    retention: other than the cluster's; ``Retention(keep_full=2)`` keeps two full
    sets and all since.  Days are those of the cluster's time zone.

    Raises:
      NotCoherent: a broken manifest may need anything.
      SetUnreadable: a file could not be looked at; it may be needed, too.
      BackupDirectoryLost: the backup directory is another one than before.
      OtherHistory: it is another cluster's, or that of another copy of this one.
    """
    return _plan(cluster, BackupDirectory.open_to_change(cluster), retention)


def prune(cluster: Cluster, retention: Retention | None = None) -> PrunePlan:
    """Remove the sets that the retention does not keep, and what only they needed.

    Returns what was done.  A run that is killed is ended by the next one.

    Raises:
      Locked: a backup, restore, pack or another prune is under way.
      InterruptedRestore: a restore has to be ended first, and may need any set.
      EngineFailed: something could not be removed.
      NotCoherent, SetUnreadable, BackupDirectoryLost, OtherHistory: as `plan`.
    """
    directory = BackupDirectory.open_to_change(cluster)
    with (
        lock.hold(cluster, "prune"),
        lock.hold_directory(directory.path, "prune"),
        results.record(cluster, "prune") as recorded,
    ):
        # Its end may need files of a set that nobody else wants.
        refuse_unfinished(cluster)
        planned = _plan(cluster, directory, retention)
        try:
            _remove(directory, planned)
        except OSError as error:
            raise EngineFailed(
                f"{error}",
                "Run it again: it ends what it began. The sets that bin/cluster"
                " backups lists are as good as before.",
            ) from error
        recorded.status = planned.exit_status
        return planned


def _plan(
    cluster: Cluster, directory: BackupDirectory, retention: Retention | None
) -> PrunePlan:
    try:
        return _plan_by_what_is_known(cluster, directory, retention)
    except OSError as error:
        raise _nothing_is_removed(str(error)) from error


def _plan_by_what_is_known(
    cluster: Cluster, directory: BackupDirectory, retention: Retention | None
) -> PrunePlan:
    _refuse_broken(directory)
    for what in directory.strangers():
        logger.warning("%s", what)
    zone = zoneinfo.ZoneInfo(cluster.time_zone) if cluster.time_zone else None
    sets = directory.sets()
    for known in sets:
        if known.unread:
            raise _nothing_is_removed(f"set {known.manifest.id}: {known.unread[0]}")
    candidates = [_candidate(known) for known in sets]
    kept = choose_kept(candidates, retention or cluster.retention, zone)
    kept |= _find_last_copies(cluster, directory, sets, kept)
    kept = dict(sorted(kept.items()))
    removed = [known for known in reversed(sets) if known.manifest.id not in kept]
    begun = _find_begun(directory)
    going = [*begun.values(), *(known.manifest for known in removed)]
    staying = [known.manifest for known in sets if known.manifest.id in kept]
    ended = {made.id for made in begun.values()}
    staying += [made for made in directory.strange_manifests() if made.id not in ended]
    frees = find_freed(directory, going, staying)
    unknown = {known.manifest.id: known.reason for known in sets if known.is_unknown}
    return PrunePlan(removed, begun, kept, frees, unknown)


def _find_last_copies(
    cluster: Cluster,
    directory: BackupDirectory,
    sets: Sequence[BackupSet],
    kept: Mapping[str, tuple[str, ...]],
) -> dict[str, tuple[str, ...]]:
    """{id of a set that retention does not keep, and that must not go: why}."""
    manifests = [known.manifest for known in sets]
    reasons = find_last_copies(
        cluster,
        directory,
        [made for made in manifests if made.id not in kept],
        [made for made in manifests if made.id in kept],
    )
    for set_id, why in reasons.items():
        logger.warning("set %s stays: %s", set_id, why)
    return {set_id: (why,) for set_id, why in reasons.items()}


def _remove(directory: BackupDirectory, planned: PrunePlan) -> None:
    """Remove what goes by the plan, in an order in which it may end anywhere."""
    going = [directory.set_folder(known.manifest.id) for known in planned.removed]
    # First no set is a set any more that lacks what is removed then.
    for folder in going:
        _set_aside(folder)
    _remove_files(planned.frees)
    for folder in sorted([*planned.begun, *going]):
        _remove_set(folder)
    durable.sync_folder(directory.sets_folder)


def _candidate(known: BackupSet) -> Candidate:
    made = known.manifest
    return Candidate(
        made.id,
        made.point.time,
        made.kind == "full",
        known.is_whole,
        known.is_unknown,
    )


def _refuse_broken(directory: BackupDirectory) -> None:
    """Refuse to go on where it is not known what a set needs.

    Raises:
      NotCoherent: a manifest is broken.
      SetUnreadable: a manifest could not be read.
    """
    for error in directory.unread_manifests().values():
        raise _nothing_is_removed(str(error)) from error
    broken = directory.broken_manifests()
    if broken:
        raise NotCoherent(
            f"{broken[0]}: what that set needs is not known, and nothing is removed",
            "Move its folder away, if it shall be none any more; then prune again.",
        )


def _find_begun(directory: BackupDirectory) -> dict[Path, Manifest]:
    """{folder: manifest} of sets that a killed run had begun to remove."""
    begun = {}
    for folder in directory.set_folders():
        if presence.is_there(folder / ASIDE):
            made = manifest.read(folder / ASIDE)
            if made.id == folder.name:
                begun[folder] = made
            else:
                # A copy: what it names is that set's, which may be there.
                logger.warning(
                    "%s names set %s: it is left alone", folder / ASIDE, made.id
                )
    return begun


def _nothing_is_removed(what: str) -> SetUnreadable:
    """The error of a prune that could not look at everything."""
    return SetUnreadable(
        f"{what}: what is needed is not known, and nothing is removed",
        "See to the disk, then prune again.",
    )


def _set_aside(folder: Path) -> None:
    """Make a set none, for everybody; its manifest tells what is left to remove."""
    (folder / manifest.FILE_NAME).rename(folder / ASIDE)
    durable.sync_folder(folder)


def _remove_files(frees: Freed) -> None:
    """Remove what the sets that are set aside have left outside of their folders."""
    for folder, names in frees.data_files.items():
        if not presence.is_there(folder):
            continue
        repozo.discard(folder, set(repozo.list_files(folder)) - names)
        durable.sync_folder(folder)
    for blob in frees.blobs:
        blob.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            # Where other blobs are left in it.
            blob.parent.rmdir()
    for path in frees.lists:
        path.unlink(missing_ok=True)


def _remove_set(folder: Path) -> None:
    """Remove the folder of a set that is set aside; what tells of it goes last."""
    for path in [*folder.iterdir()]:
        if path.name != ASIDE:
            path.unlink()
    (folder / ASIDE).unlink()
    for path in folder.iterdir():
        # A verification has just told what it found.
        path.unlink()
    folder.rmdir()
