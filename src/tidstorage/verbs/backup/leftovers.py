"""Remove what backups leave that failed or were killed: none of it belongs to a set.

Blobs stay in their pool: the next backup will want them.
"""

import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tidstorage.errors import FileUnreadable, SetUnreadable
from tidstorage.sets import begun, manifest, repozo
from tidstorage.sets.blob_pool import list_path
from tidstorage.sets.directory import BackupDirectory
from tidstorage.system import durable, presence

logger = logging.getLogger(__name__)


def remove_unfinished_sets(
    directory: BackupDirectory, named: Collection[str] | None
) -> list[str]:
    """Remove the sets that were begun and not finished, and the files they had begun.

    named: the paths that manifests name; their files stay.  None where nobody can
    tell which those are: then the files of unfinished sets stay too.

    Returns why files of unfinished sets may be left, in words, one reason a set.
    What nobody can look into is left alone, as are links, which lead elsewhere.

    Raises: SetUnreadable: where nobody can tell which folders there are.
    """
    reasons: list[str] = []
    for folder in directory.set_folders():
        try:
            is_made = presence.is_there(folder / manifest.FILE_NAME)
            is_begun = presence.is_there(folder / begun.FILE_NAME)
        except OSError as error:
            reasons.append(f"{folder} is left alone: {presence.describe(error)}")
            continue
        if is_made and is_begun:
            # It was killed between its last two steps; the set is finished.
            (folder / begun.FILE_NAME).unlink(missing_ok=True)
        elif is_made:
            continue
        elif is_begun and not begun.SET_ID.fullmatch(folder.name):
            # A copy of such a folder: what it tells is another set's.
            logger.warning("%s is no folder of a set: it is left alone", folder)
        elif is_begun:
            try:
                reason = _remove_begun_files(directory, folder, named)
            except SetUnreadable as error:
                # Its note may be read the next time, and tells what to remove.
                reasons.append(str(error))
                continue
            if reason is not None:
                reasons.append(reason)
            # Last, since the folder's note is what tells of the files.
            remove_set(directory, folder)
        elif folder.is_dir() and not _holds_anything(folder):
            shutil.rmtree(folder)
    return reasons


def find_unfinished(directory: BackupDirectory) -> list[str]:
    """Which sets were begun and not finished, or may have been, in words."""
    unfinished = []
    for folder in directory.set_folders():
        try:
            if presence.is_there(folder / manifest.FILE_NAME):
                continue
            is_begun = presence.is_there(folder / begun.FILE_NAME)
        except OSError:
            is_begun = True
        if is_begun:
            unfinished.append(f"{folder} may not be finished, and is left alone")
    return unfinished


def _remove_begun_files(
    directory: BackupDirectory, folder: Path, named: Collection[str] | None
) -> str | None:
    """Remove the repozo files of an unfinished set; in words why some may be left.

    Raises: SetUnreadable: what was begun could not be read.
    """
    try:
        files_before = begun.read(folder)
    except FileUnreadable as error:
        if isinstance(error.__cause__, OSError):
            raise SetUnreadable(f"{error}; the folder is left alone") from error
        return f"{error}; files of that set may be left"
    if named is None:
        return f"{folder} was not finished, and its files may be left"
    remove_new_files(directory, files_before, named)
    return None


def _holds_anything(folder: Path) -> bool:
    """Whether there is more than what is left of writing that a set is begun."""
    return any(not durable.is_unfinished(path) for path in folder.iterdir())


def remove_new_files(
    directory: BackupDirectory,
    files_before: Mapping[str, Sequence[str]],
    named: Collection[str] = (),
) -> None:
    """Remove the repozo files that were not there before, but for those ``named``.

    files_before: {storage id: names of files}.  named: the paths that manifests name.
    """
    for storage_id, names in files_before.items():
        repository = directory.repository(storage_id)
        keep = {
            name
            for name in repozo.list_files(repository)
            if name in names or directory.relative(repository / name) in named
        }
        repozo.discard(repository, keep)


def remove_set(directory: BackupDirectory, folder: Path) -> None:
    """Remove what a set without a manifest has besides repozo's files.

    folder: of the set, in the backup directory.
    """
    for pool in directory.pools():
        list_path(pool, folder.name).unlink(missing_ok=True)
    shutil.rmtree(folder)
