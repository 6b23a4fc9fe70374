"""Is the set to be restored whole, and the newest, as far as anybody can tell?"""

import logging

from tidstorage.errors import EngineFailed, SetDamaged, SetUnreadable
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.listing import BackupSet

logger = logging.getLogger(__name__)


def refuse_unsound(backup_set: BackupSet, *, is_named: bool) -> BackupSet:
    """The set, if it is whole.

    One that the last verification could not read is tried, where it is asked for by
    its id: to put it together is the second look.

    Raises:
      NotCoherent: it is not whole.
      SetUnreadable: nobody knows whether it is.
    """
    set_id = backup_set.manifest.id
    if backup_set.unread or (backup_set.is_unknown and not is_named):
        raise SetUnreadable(
            f"nobody knows whether set {set_id} is whole: {backup_set.reason}",
            f"Look again (bin/cluster verify {set_id}), try just this one (--set"
            f" {set_id}), or choose another one (bin/cluster backups).",
        )
    if backup_set.is_unknown:
        logger.warning(
            "set %s could not be read the last time, and is tried: %s",
            set_id,
            backup_set.reason,
        )
    elif not backup_set.is_whole:
        faults = "; ".join(backup_set.faults)
        raise SetDamaged(
            f"set {set_id} is not whole: {faults}",
            "Choose another one (bin/cluster backups).",
        )
    return backup_set


def refuse_newer_unknown(directory: BackupDirectory, set_id: str) -> None:
    """Refuse to take a set for the newest where nobody knows that it is.

    Raises: SetUnreadable: the manifest of a newer one cannot be read.
    """
    for unread_id, error in directory.unread_manifests().items():
        if unread_id < set_id:
            continue
        raise SetUnreadable(
            f"{error}: that set is newer than {set_id}",
            f"See to the disk and try again, or take what there is: --set {set_id}.",
        )


def describe_passed_over(directory: BackupDirectory, set_id: str) -> tuple[str, ...]:
    """Newer sets that are not taken, and why, in words; none where nobody can look."""
    try:
        newer = [
            _describe_newer(known)
            for known in directory.sets()
            if known.manifest.id > set_id and not known.is_whole
        ]
        return (*newer, *map(str, directory.broken_manifests()))
    except (EngineFailed, OSError) as error:
        return (f"whether there are newer sets cannot be told: {error}",)


def _describe_newer(known: BackupSet) -> str:
    newer = f"set {known.manifest.id} is newer, but"
    if known.is_unknown:
        return f"{newer} nobody knows whether it is whole: {known.reason}"
    return f"{newer} not whole: {known.reason}"
