"""What ``--cleanup`` removes: copies older than the full ones that are to be kept.

Never what the last backup that succeeded is made of, be it the only one.
"""

from pathlib import Path

from tidstorage.errors import DescriptionError
from tidstorage.legacy import site as sites
from tidstorage.legacy.site import Site
from tidstorage.sets import repozo
from tidstorage.system import durable

#: Suffixes of repozo's files; anything else in a repository is somebody's own.
_OF_REPOZO = (".fs", ".fsz", ".deltafs", ".deltafsz", ".dat", ".index")
_SECOND = len("YYYY-mm-dd-HH-MM-SS")
_COMMAND = "tidstorage_repozo --cleanup"


def plan(site: Site) -> list[Path]:
    """The files that `clean_up` would remove, in its order; nothing is changed.

    Raises: what `clean_up` raises.
    """
    with sites.hold_alone(site, _COMMAND):
        return find_excess(site)


def clean_up(site: Site) -> list[Path]:
    """Remove the files of copies that are not to be kept; returns what they were.

    Raises:
      DescriptionError: where the configuration does not say how many to keep.
      NoSuchSet: where no backup has succeeded yet.
      Locked, InterruptedRestore: as `sites.hold_alone`.
    """
    with sites.hold_alone(site, _COMMAND):
        files = find_excess(site)
        for path in files:
            path.unlink()
        for folder in {path.parent for path in files}:
            durable.sync_folder(folder)
        return files


def find_excess(site: Site) -> list[Path]:
    """Files to remove, in the order in which a kill leaves only whole copies."""
    if site.keep_full is None:
        raise DescriptionError(
            "keep_full_backup_count is missing: how many full copies are to be kept"
        )
    last = sites.read_last_timestamp(site)
    files: list[Path] = []
    oldest = []
    for storage in site.storages:
        names = repozo.list_files(storage.repository)
        fulls = [name[:_SECOND] for name in names if "delta" not in name]
        needed = [second for second in fulls if second <= last]
        if not needed:
            # Nothing here is proven to be in excess.
            oldest.append("")
            continue
        # The last full copy that the last good backup builds on stays, however many
        # copies of runs that failed came later.
        first = min(fulls[-site.keep_full :][0], needed[-1])
        oldest.append(first)
        files += _older_files(storage.repository, first)
    return [*files, *_older_tid_logs(site, min(oldest))]


def _older_files(folder: Path, first: str) -> list[Path]:
    """Files of repozo from before ``first``, the newest first.

    Were it killed, what is left of a chain is its beginning, a copy of its own.
    """
    files = [
        path
        for path in folder.iterdir()
        if path.suffix in _OF_REPOZO and len(path.stem) == _SECOND and path.stem < first
    ]
    return sorted(
        files,
        key=lambda path: (
            path.stem,
            "delta" in path.suffix,
            # What only describes a full copy goes before it, whatever the order in
            # which the folder has them.
            not path.suffix.startswith(".fs"),
            path.suffix,
        ),
        reverse=True,
    )


def _older_tid_logs(site: Site, first: str) -> list[Path]:
    """Copies of the TID log that no copy of a storage that is kept is cut by.

    first: when the oldest of those was begun; empty: nobody can tell.
    """
    if site.status_file is None or site.status_backups is None:
        return []
    if not site.status_backups.is_dir():
        return []
    prefix = f"{site.status_file.name}-"
    logs = {
        path.name.removeprefix(prefix): path
        for path in sorted(site.status_backups.iterdir())
        if path.name.startswith(prefix) and len(path.name) == len(prefix) + _SECOND
    }
    # A backup copies the log first: the log of the oldest copy is the last one from
    # before that copy was begun.
    own = max((second for second in logs if second <= first), default="")
    return [path for second, path in logs.items() if second < own]
