"""What ``--cleanup`` removes: copies older than the full ones that are to be kept.

Never what the last backup that succeeded is made of, be it the only one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.errors import DescriptionError, InterruptedRestore
from tidstorage.legacy import site as sites
from tidstorage.legacy.site import Site
from tidstorage.operation import lock
from tidstorage.sets import repozo
from tidstorage.system import durable

#: Suffixes of repozo's files; anything else in a repository is somebody's own.
_OF_REPOZO = (".fs", ".fsz", ".deltafs", ".deltafsz", ".dat", ".index")
_SECOND = len("YYYY-mm-dd-HH-MM-SS")


@dataclass(frozen=True, slots=True)
class Excess:
    """Files to remove, in the order in which a kill leaves whole copies alone."""

    files: Sequence[Path]
    size: int


def clean_up(site: Site, dry_run: bool) -> Excess:
    """Remove what is in excess, and say what it was; NoSuchSet without a backup."""
    with lock.hold_file(site.lock_file, "tidstorage_repozo --cleanup"):
        if site.swap_journal.exists():
            raise InterruptedRestore(f"a restore was interrupted: {site.swap_journal}")
        files = _excess(site)
        found = Excess(files, sum(each.stat().st_size for each in files))
        if not dry_run:
            for each in files:
                each.unlink()
            for folder in {each.parent for each in files}:
                durable.sync_folder(folder)
        return found


def _excess(site: Site) -> list[Path]:
    if site.keep_full is None:
        raise DescriptionError(
            "keep_full_backup_count is missing: how many full copies are to be kept"
        )
    last = sites.last_timestamp(site)
    files: list[Path] = []
    oldest = []
    for storage in site.storages:
        names = repozo.data_files(storage.repository)
        fulls = [each[:_SECOND] for each in names if "delta" not in each]
        needed = [each for each in fulls if each <= last]
        if not needed:
            # Nothing here is proven to be in excess.
            oldest.append("")
            continue
        first = min(fulls[-site.keep_full :][0], needed[-1])
        oldest.append(first)
        files += _older(storage.repository, first)
    return [*files, *_status_files(site, min(oldest))]


def _older(folder: Path, first: str) -> list[Path]:
    """Files of repozo from before ``first``, the newest first.

    Were it killed, what is left of a chain is its beginning, a copy of its own.
    """
    found = [
        each
        for each in folder.iterdir()
        if each.suffix in _OF_REPOZO and len(each.stem) == _SECOND and each.stem < first
    ]
    return sorted(
        found,
        key=lambda each: (
            each.stem,
            "delta" in each.suffix,
            # What only describes a full copy goes before it, whatever the order in
            # which the folder has them.
            not each.suffix.startswith(".fs"),
            each.suffix,
        ),
        reverse=True,
    )


def _status_files(site: Site, first: str) -> list[Path]:
    """Copies of the TID log from before the oldest copy that is kept."""
    if site.status_file is None or site.status_backups is None:
        return []
    if not site.status_backups.is_dir():
        return []
    prefix = f"{site.status_file.name}-"
    return [
        each
        for each in sorted(site.status_backups.iterdir())
        if each.name.startswith(prefix)
        and len(each.name) == len(prefix) + _SECOND
        and each.name[len(prefix) :] < first
    ]
