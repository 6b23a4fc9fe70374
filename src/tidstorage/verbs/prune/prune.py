"""A whole prune: which sets go, in what order, and what a killed run left.

A set ends with its manifest: that is renamed aside first, so that the set is no
set for anybody any more.  Only then its files go, and the renamed manifest last:
it tells the next run what to remove, wherever this one was killed.
"""

import contextlib
import datetime
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster, Retention
from tidstorage.errors import EngineFailed, NotCoherent
from tidstorage.operation import lock, results
from tidstorage.operation.unfinished import refuse_unfinished
from tidstorage.sets import directory as backup_directory
from tidstorage.sets import layout, listing, manifest, repozo
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.manifest import Manifest
from tidstorage.system import durable
from tidstorage.verbs.prune.freeing import Freed, freed
from tidstorage.verbs.prune.retention import Candidate, choose

#: What a manifest is renamed to when its set goes.
ASIDE = "pruned.json"


@dataclass(frozen=True, slots=True)
class Report:
    """What a prune did, or with ``dry_run`` would do.

    removed: the sets that go, oldest first.  ended: ids of sets that a run which
    was killed had begun to remove.  kept: {set id: why it stays}.  freed: bytes.
    """

    removed: Sequence[BackupSet]
    ended: Sequence[str]
    kept: Mapping[str, tuple[str, ...]]
    freed: int


def prune(
    cluster: Cluster,
    retention: Retention | None = None,
    dry_run: bool = False,
) -> Report:
    """Remove the sets that the retention does not keep, and what only they needed.

    retention: other than the cluster's; ``Retention(keep_full=2)`` keeps two full
    sets and all since.  Days are those of the cluster's time zone.  NotCoherent where
    a broken manifest may need anything; InterruptedRestore, Locked, EngineFailed,
    BackupDirectoryLost.
    """
    directory = backup_directory.known(cluster)
    retention = retention or cluster.retention
    zone = zoneinfo.ZoneInfo(cluster.time_zone) if cluster.time_zone else None
    if dry_run:
        return _prune(directory, retention, zone, dry_run=True)
    with lock.hold(cluster, "prune"), results.record(cluster, "prune"):
        # Its end may need files of a set that nobody else wants.
        refuse_unfinished(cluster)
        try:
            return _prune(directory, retention, zone, dry_run=False)
        except OSError as error:
            raise EngineFailed(
                f"{error}",
                "Run it again: it ends what it began. The sets that bin/cluster"
                " backups lists are as good as before.",
            ) from error


def _prune(
    directory: Path, retention: Retention, zone: datetime.tzinfo | None, dry_run: bool
) -> Report:
    _refuse_broken(directory)
    found = listing.every(directory)
    kept = choose([*map(_candidate, found)], retention, zone)
    removed = [each for each in reversed(found) if each.manifest.id not in kept]
    left = _begun(directory)
    gone = [*left.values(), *(each.manifest for each in removed)]
    staying = [each.manifest for each in found if each.manifest.id in kept]
    frees = freed(directory, gone, staying)
    if not dry_run:
        for each in removed:
            _set_aside(layout.sets(directory) / each.manifest.id)
        _remove(directory, frees)
    ended = [folder.name for folder in left]
    return Report(removed, ended, kept, frees.size)


def _candidate(found: BackupSet) -> Candidate:
    made = found.manifest
    return Candidate(made.id, made.point.time, made.kind == "full", found.is_whole)


def _refuse_broken(directory: Path) -> None:
    broken = listing.manifests(directory)[1]
    if broken:
        raise NotCoherent(
            f"{broken[0]}: what that set needs is not known, and nothing is removed",
            "Move its folder away, if it shall be none any more; then prune again.",
        )


def _begun(directory: Path) -> dict[Path, Manifest]:
    """{folder: manifest} of sets that a killed run had begun to remove."""
    folders = sorted(path.parent for path in layout.sets(directory).glob(f"*/{ASIDE}"))
    return {folder: manifest.read(folder / ASIDE) for folder in folders}


def _set_aside(folder: Path) -> None:
    """From then on there is no such set."""
    (folder / manifest.FILE_NAME).rename(folder / ASIDE)
    durable.sync_folder(folder)


def _remove(directory: Path, frees: Freed) -> None:
    """What the sets that are set aside have left, and then themselves."""
    for folder, names in frees.data_files.items():
        if not folder.is_dir():
            continue
        repozo.discard(folder, set(repozo.data_files(folder)) - names)
        durable.sync_folder(folder)
    for blob in frees.blobs:
        blob.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            # Where other blobs are left in it.
            blob.parent.rmdir()
    for each in frees.lists:
        each.unlink(missing_ok=True)
    for folder in _begun(directory):
        for path in _but_aside(folder):
            path.unlink()
        (folder / ASIDE).unlink()
        for path in folder.iterdir():
            # A verification has just told what it found.
            path.unlink()
        folder.rmdir()
    durable.sync_folder(layout.sets(directory))


def _but_aside(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.iterdir() if path.name != ASIDE)
