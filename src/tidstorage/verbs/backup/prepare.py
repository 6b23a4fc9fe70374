"""First phase of a backup: can it succeed, what is there before, and the set's id."""

import datetime
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster, Zeo
from tidstorage.coherence.point import Point
from tidstorage.engines.filestorage.blob_files import MARKER, read_layout
from tidstorage.errors import FileUnreadable, NotConnected
from tidstorage.operation import pack_note
from tidstorage.points import known_files, restores_by_hand, timelines
from tidstorage.points.beside import newest_point
from tidstorage.sets import begun, history, repozo
from tidstorage.sets.begun import FilesBefore
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock, private_files
from tidstorage.system.address import address_text, connect
from tidstorage.verbs.backup import leftovers

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the later phases of a backup build on.

    directory: where the set goes.  set_id: of the new set.  files_before: {storage
    id: names of the repozo files that were there before}.  previous: the manifest of
    the newest set; None without one.  floor: the newest clean point to examine the
    files from; None without one.  timeline: number of the one that the cluster is on;
    the first one is 1.  start_over: make full copies, since those that are there
    are too old, or cannot be trusted to be continued.
    """

    cluster: Cluster
    directory: BackupDirectory
    set_id: str
    files_before: FilesBefore
    previous: Manifest | None
    floor: Point | None
    timeline: int
    start_over: bool

    @property
    def set_folder(self) -> Path:
        """The folder of the new set."""
        return self.directory.set_folder(self.set_id)

    def discard_copies(self) -> None:
        """Remove the repozo files that were not there before."""
        leftovers.remove_new_files(self.directory, self.files_before)


def prepare(cluster: Cluster, *, full: bool = False) -> Preparation:
    """Make ready for a new set, once the cluster's lock is held.

    What killed backups left is removed, and the new set is noted as begun.  full:
    make full copies, whatever there is.

    Raises:
      NotConnected: a ZEO server does not answer.
      FileUnreadable: a storage's files, or a note of ours, cannot be read.
      DataFileLost: a storage's file is not the one that was there before.
      BackupDirectoryLost: the backup directory is another one than before.
      OtherHistory: the backup directory is another cluster's, or another copy's.
      NotPermitted, Unprotected: others could change or read what is written.
      ClockWentBack: the clock says that it is before the newest set.
      SetUnreadable: nobody can tell which sets there are.
      OSError: the backup directory cannot be read or written.
    """
    refuse_the_impossible(cluster)
    directory = BackupDirectory.begin(cluster)
    restores_by_hand.notice(cluster, newest_set=next(iter(directory.manifests()), None))
    private_files.make_folder(directory.sets_folder)
    for storage in cluster.storages:
        private_files.make_folder(directory.repository(storage.id))
    newest = next(iter(directory.manifests()), None)
    for what in directory.strangers():
        logger.warning("%s", what)
    unknown = _find_unknown(directory, newest)
    reasons = []
    if not directory.unread_manifests():
        # First of all, so that nothing below takes leftovers for files of a set.
        # Where nobody can tell what sets name, they wait for the next backup.
        reasons += leftovers.remove_unfinished_sets(directory, _named_files(directory))
    reasons += _find_damage(directory, newest)
    for reason in reasons:
        logger.warning(
            "full copies are made; something is wrong with an earlier set: %s",
            reason,
        )
    for reason in unknown:
        logger.warning(
            "full copies are made, since nobody knows whether an earlier set is whole,"
            " which is not touched: %s",
            reason,
        )
    files_before = {
        storage.id: repozo.list_files(directory.repository(storage.id))
        for storage in cluster.storages
    }
    full = full or _is_full_due(cluster, files_before) or _follows_a_pack(cluster)
    timeline = _find_timeline(cluster)
    preparation = Preparation(
        cluster=cluster,
        directory=directory,
        set_id=_choose_id(cluster, directory),
        files_before=files_before,
        previous=newest,
        floor=_find_floor(cluster, timeline),
        timeline=timeline,
        start_over=full or bool(reasons or unknown),
    )
    preparation.set_folder.mkdir(mode=private_files.FOLDER_MODE)
    begun.write(preparation.set_folder, files_before)
    return preparation


def _find_timeline(cluster: Cluster) -> int:
    try:
        return timelines.known_timeline(cluster)
    except FileUnreadable as error:
        # A broken journal is no reason to go without a backup.
        logger.warning("the points beside the files alone tell the timeline: %s", error)
        return timelines.timeline_beside(cluster)


def _find_floor(cluster: Cluster, timeline: int) -> Point | None:
    """The point to examine files from: beside them, or one that they still hold.

    One of a former timeline says nothing of what came after a restore.
    """
    beside = newest_point(cluster)
    if beside is None or beside.timeline == timeline:
        return beside
    return restores_by_hand.find_floor(cluster, timeline)


def _named_files(directory: BackupDirectory) -> set[str] | None:
    """The paths of all files that manifests name; None where nobody can tell."""
    if directory.broken_manifests():
        # It may have named any file.
        return None
    known = [*directory.manifests(), *directory.strange_manifests()]
    return {file.path for made in known for file in made.files()}


def _find_damage(directory: BackupDirectory, newest: Manifest | None) -> list[str]:
    """Why the copies that are there must not be continued, in words.

    A copy that went on from a damaged one would be refused, or be as damaged.
    newest: the newest set whose manifest is sound.
    """
    reasons: list[str] = []
    # Nothing was built on a manifest that was broken before the newest sound set was
    # made, and nothing of that set is lost by one that broke later.
    if newest is None or newest.id != directory.set_ids()[0]:
        reasons += map(str, directory.broken_manifests())
    if newest is not None:
        # One is enough.
        reasons += directory.judge([newest])[0].faults[:1]
    return reasons


def _find_unknown(directory: BackupDirectory, newest: Manifest | None) -> list[str]:
    """Why nobody knows whether the copies that are there may be continued, in words.

    Full copies are safe then: they are new files, under names of a later second than
    any that is there, and touch none of what could not be read.
    """
    unknown: list[str] = []
    unread = directory.unread_manifests()
    for set_id, error in unread.items():
        if newest is None or set_id > newest.id:
            # It may be what the newest copies belong to.
            unknown.append(str(error))
        else:
            # Nothing was built on it since the newest set was made.
            logger.warning("%s", error)
    if unread:
        unknown += leftovers.find_unfinished(directory)
    if newest is not None:
        (known,) = directory.judge([newest])
        unknown += (*known.unread, *known.doubts)[:1]
    return unknown


def _is_full_due(cluster: Cluster, files_before: Mapping[str, Sequence[str]]) -> bool:
    """Whether the description wants full copies again, by the age of those there are.

    repozo would go on from the same full copy for ever.  All storages begin anew
    together, so that a set does not hang on copies of several ages.
    """
    every = cluster.backup.full_every
    if every is None:
        return False
    # Cron does not start in the same second each day.
    due = clock.now() - every + min(every / 24, datetime.timedelta(hours=1))
    begun_at = [repozo.find_newest_full(names) for names in files_before.values()]
    return any(moment is not None and moment <= due for moment in begun_at)


def _follows_a_pack(cluster: Cluster) -> bool:
    """Whether a pack of ours has not come to its end, which is logged."""
    words = pack_note.describe(cluster)
    if words is not None:
        logger.warning("full copies are made, since %s", words)
    return words is not None


def refuse_the_impossible(cluster: Cluster) -> None:
    """Refuse a backup that cannot succeed now.

    Raises:
      FileUnreadable: a storage has no Data.fs, or no blob directory where it should.
      DataFileLost, OtherHistory: a storage's file is not the one that was there before.
      NotConnected: a ZEO server accepts no connection.
    """
    history.refuse_others_files(cluster)
    findings = known_files.examine(known_files.record_path(cluster), cluster.storages)
    known_files.refuse_lost(findings)
    for storage in cluster.storages:
        if not storage.data_file.is_file():
            raise FileUnreadable(
                f"storage {storage.id}: there is no {storage.data_file}",
                "Is the path right, and has its ZEO server run once?",
            )
        if storage.blob_directory:
            _refuse_no_blobs(storage.id, storage.blob_directory)
    for zeo in cluster.zeos:
        _refuse_silence(zeo)


def _refuse_no_blobs(storage_id: str, directory: Path) -> None:
    """Refuse what is no blob directory: it would be backed up as an empty one.

    Raises: FileUnreadable: it is none, or one that nobody knows how to read.
    """
    if not (directory / MARKER).is_file():
        raise FileUnreadable(
            f"storage {storage_id}: {directory} is no blob directory: there is no"
            f" {MARKER}",
            "Is its disk mounted, and has its ZEO server run with it once?",
        )
    read_layout(directory)


def _refuse_silence(zeo: Zeo) -> None:
    try:
        connect(zeo.address).close()
    except OSError as error:
        raise NotConnected(
            f"ZEO server {zeo.name} at {address_text(zeo.address)} does not answer:"
            f" {error}",
            "A backup needs every server up (bin/cluster status, start); earlier"
            " sets are as good as before.",
        ) from error


def _choose_id(cluster: Cluster, directory: BackupDirectory) -> str:
    """An id later than every set and every file of repozo; waits until it is.

    Raises: ClockWentBack: where it would have to wait for long.
    """
    taken = [
        repozo.find_newest_second(directory.repository(storage.id))
        for storage in cluster.storages
    ]
    for folder in directory.sets_folder.iterdir():
        if match := begun.SET_ID.fullmatch(folder.name):
            taken.append("-".join(match.groups()))
    second = repozo.await_second_after(
        max(taken),
        "Correct the clock of this machine. If it was wrong then, let backups begin"
        " anew: name another directory under [backup].",
    )
    year, month, day, hour, minute, seconds = second.split("-")
    return f"{year}{month}{day}T{hour}{minute}{seconds}Z"
