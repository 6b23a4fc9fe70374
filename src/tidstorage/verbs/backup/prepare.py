"""First phase of a backup: is it possible, what did a killed one leave, its id."""

import datetime
import itertools
import logging
import re
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster, Zeo
from tidstorage.coherence.point import Point
from tidstorage.errors import (
    EngineFailed,
    FileUnreadable,
    NotCoherent,
    NotConnected,
)
from tidstorage.operation import pack_note
from tidstorage.points.beside import newest_point
from tidstorage.sets import layout, manifest, repozo
from tidstorage.sets.blobs import MARKER, list_path
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock, durable, json_file
from tidstorage.system.address import address_text, connect
from tidstorage.system.json_file import Shape

logger = logging.getLogger(__name__)

#: Seconds a clock may have gone back before it is an error rather than a wait.
_CLOCK_TOLERANCE = 5.0
_SET_ID = re.compile(r"\d{8}T\d{6}Z")


class _Begun(Shape):
    """existing: {storage id: repozo files that were there before}."""

    version: Literal[1]
    existing: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the later phases build on.

    directory: where the set goes.  existing: {storage id: repozo files that were
    there before}.  previous: the newest set.  floor: the newest clean point beside
    the data files.  start_over: the repositories cannot be trusted to be continued.
    """

    directory: BackupDirectory
    set_id: str
    folder: Path
    existing: Mapping[str, list[str]]
    previous: Manifest | None
    floor: Point | None
    start_over: bool


def prepare(cluster: Cluster, full: bool = False) -> Preparation:
    """Make ready for a new set; the lock is held.

    full: start over, whatever there is.  NotConnected, FileUnreadable or
    EngineFailed where it cannot be made.
    """
    refuse_the_impossible(cluster)
    directory = BackupDirectory.begin(cluster)
    layout.make_folder(directory.sets_folder)
    for storage in cluster.storages:
        layout.make_folder(directory.repository(storage.id))
    sound, broken = directory.manifests(), directory.broken_manifests()
    # A broken manifest may name any file: nothing is removed then.
    left = _discard_unfinished(directory, sound, remove_files=not broken)
    existing = {
        storage.id: repozo.data_files(directory.repository(storage.id))
        for storage in cluster.storages
    }
    full = full or _is_full_due(cluster, existing) or _follows_a_pack(cluster)
    set_id = _new_id(cluster, directory)
    folder = directory.set_folder(set_id)
    folder.mkdir(mode=layout.FOLDER_MODE)
    begun = _Begun(version=1, existing=existing)
    durable.replace_text(folder / layout.BEGUN, begun.model_dump_json())
    return Preparation(
        directory=directory,
        set_id=set_id,
        folder=folder,
        existing=existing,
        previous=sound[0] if sound else None,
        floor=newest_point(cluster),
        start_over=_must_start_over(directory, sound, broken, left) or full,
    )


def _is_full_due(cluster: Cluster, existing: Mapping[str, Sequence[str]]) -> bool:
    """Whether the description wants full copies again, by their age.

    repozo would go on from the same full copy for ever.  All storages begin anew
    together, so that a set does not hang on copies of several ages.
    """
    every = cluster.backup.full_every
    if every is None:
        return False
    # Cron does not start in the same second each day.
    due = clock.now() - every + min(every / 24, datetime.timedelta(hours=1))
    begun = [repozo.newest_full(names) for names in existing.values()]
    return any(moment is not None and moment <= due for moment in begun)


def _follows_a_pack(cluster: Cluster) -> bool:
    """Whether a pack of ours was cut off, said aloud."""
    words = pack_note.describe(cluster)
    if words is not None:
        logger.warning("full copies are made, since %s", words)
    return words is not None


def _must_start_over(
    directory: BackupDirectory,
    sound: Sequence[Manifest],
    broken: Sequence[NotCoherent],
    left: Sequence[str],
) -> bool:
    """Whether to build on nothing that is there, said aloud.

    A copy that went on from a damaged one would be refused, or be as damaged;
    one that went on from what a killed run left would be garbage.  What is broken
    of before the newest sound set was not built on either.
    """
    reasons = list(left)
    if broken and not (sound and sound[0].id == directory.set_ids()[0]):
        reasons += map(str, broken)
    if sound:
        reasons += itertools.islice(directory.faults(sound[0]), 1)
    for reason in reasons:
        logger.warning("full copies are made, since of an earlier set %s", reason)
    return bool(reasons)


def refuse_the_impossible(cluster: Cluster) -> None:
    """FileUnreadable or NotConnected where a backup cannot succeed now."""
    for storage in cluster.storages:
        if not storage.data_file.is_file():
            raise FileUnreadable(
                f"storage {storage.id}: there is no {storage.data_file}",
                "Is the path right, and has its ZEO server run once?",
            )
        if storage.blob_directory and not _holds_blobs(storage.blob_directory):
            raise FileUnreadable(
                f"storage {storage.id}: {storage.blob_directory} is no blob directory:"
                f" there is no {MARKER}",
                "Is its disk mounted, and has its ZEO server run with it once?",
            )
    for zeo in cluster.zeos:
        _refuse_silence(zeo)


def _holds_blobs(directory: Path) -> bool:
    """Whether it is a blob directory; else it would be backed up as an empty one."""
    return (directory / MARKER).is_file()


def _refuse_silence(zeo: Zeo) -> None:
    """NotConnected where the server accepts no connection."""
    try:
        connect(zeo.address).close()
    except OSError as error:
        raise NotConnected(
            f"ZEO server {zeo.name} at {address_text(zeo.address)} does not answer:"
            f" {error}",
            "A backup needs every server up (bin/cluster status, start); earlier"
            " sets are as good as before.",
        ) from error


def _discard_unfinished(
    directory: BackupDirectory, sound: Sequence[Manifest], remove_files: bool
) -> list[str]:
    """Remove sets that were never finished, and the files only they had begun.

    Returns why files of theirs may be left, in words.
    """
    named = {each.path for found in sound for each in found.files()}
    unknown: list[str] = []
    for folder in sorted(directory.sets_folder.iterdir()):
        record = folder / layout.BEGUN
        if (folder / manifest.FILE_NAME).exists():
            record.unlink(missing_ok=True)
        elif record.exists():
            try:
                begun = json_file.read(record, _Begun, "the record of a set", "")
            except FileUnreadable as error:
                unknown.append(f"{error}; files of that set may be left")
                discard_set(directory, folder)
                continue
            if remove_files:
                discard_files(directory, begun.existing, named)
            else:
                unknown.append(f"{folder} was not finished, and its files are left")
            discard_set(directory, folder)
        elif folder.is_dir() and not _holds_anything(folder):
            shutil.rmtree(folder)
    return unknown


def _holds_anything(folder: Path) -> bool:
    """Not where a run was killed before it had written down that it began."""
    return any(not durable.is_unfinished(each) for each in folder.iterdir())


def discard_files(
    directory: BackupDirectory,
    existing: Mapping[str, Sequence[str]],
    named: Collection[str] = (),
) -> None:
    """Remove the repozo files that are neither ``existing`` nor ``named``.

    existing: {storage id: names}; named: paths that manifests name.
    """
    for storage_id, names in existing.items():
        folder = directory.repository(storage_id)
        keep = {
            name
            for name in repozo.data_files(folder)
            if name in names or directory.relative(folder / name) in named
        }
        repozo.discard(folder, keep)


def discard_set(directory: BackupDirectory, folder: Path) -> None:
    """Remove what a set without a manifest has besides repozo's files.

    Blobs stay in the pool: the next backup will want them.
    """
    for pool in directory.pools():
        list_path(pool, folder.name).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _new_id(cluster: Cluster, directory: BackupDirectory) -> str:
    """An id later than every set and every file of repozo; waits for it.

    Two files of one second would have one name, or be restored in the wrong
    order.
    """
    names = (folder.name for folder in directory.sets_folder.iterdir())
    taken = {*filter(_SET_ID.fullmatch, names)}
    for storage in cluster.storages:
        newest = repozo.newest_second(directory.repository(storage.id))
        if newest:
            date = newest.split("-")
            taken.add(f"{''.join(date[:3])}T{''.join(date[3:])}Z")
    latest = max(taken, default="")
    deadline = time.monotonic() + _CLOCK_TOLERANCE
    while (set_id := f"{clock.now():%Y%m%dT%H%M%SZ}") <= latest:
        if time.monotonic() > deadline:
            raise EngineFailed(
                f"the clock says {set_id}, but there is a backup of {latest}",
                "Correct the clock of this machine. If it was wrong then, let backups"
                " begin anew: name another directory under [backup].",
            )
        time.sleep(0.05)
    return set_id
