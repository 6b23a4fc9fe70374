"""Is the backup directory the one that was used before, and is it ours?

Where a disk is not mounted there is an empty folder, or none.  A backup made
there would fill the root disk and be alone; a restore would say that there is no
set.  So a backup directory holds a marker with an id of its own, and the cluster
keeps a note of the ids beside its TID log.

Two clusters, or a cluster and a copy of it, may name one directory.  So the marker
also says which history lies there, and which site writes it: nobody else may.
"""

import uuid
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import BackupDirectoryLost, OtherHistory
from tidstorage.sets import history
from tidstorage.sets.history import Site
from tidstorage.system import json_file, private_files
from tidstorage.system.json_file import Shape

FILE_NAME = "tidstorage-backup.json"


class Marker(Shape):
    """What is in a backup directory.

    cluster: the name of whose it is.  history: the id of what lies there; site: who
    writes to it; inode: of the directory.  The last three are missing in version 1.
    """

    version: Literal[1, 2]
    cluster: str
    id: str
    history: str | None = None
    site: Site | None = None
    inode: int | None = None


class _Note(Shape):
    """What is beside the TID log; directories: {backup directory: id of its marker}."""

    version: Literal[1]
    directories: dict[str, str]


def note_path(cluster: Cluster) -> Path:
    """The file in which the cluster keeps {backup directory: id of its marker}."""
    return cluster.daemon.tid_log.with_name("backup-directories.json")


def is_noted(cluster: Cluster) -> bool:
    """Whether the cluster's backup directory has been used before.

    Raises: FileUnreadable: where the note cannot be read.
    """
    return str(cluster.backup.directory) in _read_note(cluster)


def _is_known(cluster: Cluster, marker: Marker) -> bool:
    """Whether this cluster has used it before, maybe under another path."""
    return marker.id in _read_note(cluster).values()


def refuse_another(cluster: Cluster) -> None:
    """Refuse a backup directory that is not the one that was used before, to read.

    A cluster that has no history yet may read any: a restore begins with that.

    Raises:
      BackupDirectoryLost: it is not there now, or is another one.
      OtherHistory: it holds the backups of another history.
      FileUnreadable: the note, the marker, or the history's id cannot be read.
    """
    directory = cluster.backup.directory
    marker = read_in(directory)
    expected = _read_note(cluster).get(str(directory))
    if expected is not None and (marker is None or marker.id != expected):
        raise _lost(cluster, marker)
    own = history.read(cluster)
    if marker and marker.history and own and marker.history != own:
        raise _of_another_history(cluster, marker)


def refuse_to_change(cluster: Cluster) -> None:
    """Refuse a backup directory that another site writes to.

    Raises:
      OtherHistory: another cluster, or a copy of this one, writes to it.
      and as `refuse_another`.
    """
    refuse_another(cluster)
    marker = read_in(cluster.backup.directory)
    if marker is None:
        return
    if marker.history is None:
        if not _is_known(cluster, marker):
            raise _never_used(cluster, marker)
    elif history.read(cluster) is None and not _is_known(cluster, marker):
        raise _never_used(cluster, marker)
    elif _was_copied_along(cluster, marker):
        return
    elif marker.site is not None and not _is_here(cluster, marker.site):
        raise OtherHistory(
            f"{cluster.backup.directory} holds the backups of {marker.site}, and this"
            f" is a copy of that site: {history.here(cluster)}",
            _how_to_go_on(cluster),
        )


def _was_copied_along(cluster: Cluster, marker: Marker) -> bool:
    """Whether the directory is within the site's folder, and was copied with it.

    Then nobody else has it, and the original goes on with its own.
    """
    directory = cluster.backup.directory.resolve()
    return (
        directory.is_relative_to(cluster.directory.resolve())
        and marker.inode != directory.stat().st_ino
    )


def _is_here(cluster: Cluster, site: Site) -> bool:
    """Whether a site is this one, and not one that this is a copy of.

    A snapshot of a whole disk has the inodes of the original, which is still there.
    """
    here = history.here(cluster)
    original = site.directory / cluster.file.name
    if original.exists() and not original.samefile(cluster.file):
        return False
    return site.is_same(here)


def mark(cluster: Cluster, *, adopt: bool = False) -> str:
    """Mark the backup directory as the cluster's, and note that it has been used.

    Gives the cluster a history where it has none; returns its id.  adopt: go on
    with what lies there, whoever wrote it, as its one site from now on.

    Raises: as `refuse_to_change`, unless adopt is given.
    """
    if not adopt:
        refuse_to_change(cluster)
    directory = cluster.backup.directory
    former = read_in(directory)
    own = history.establish(cluster, former.history if former else None)
    marker = Marker(
        version=2,
        cluster=cluster.name,
        id=former.id if former else uuid.uuid4().hex,
        history=own,
        site=history.here(cluster),
        inode=directory.stat().st_ino,
    )
    if marker != former:
        json_file.write(directory / FILE_NAME, marker)
    directories = _read_note(cluster)
    if directories.get(str(directory)) != marker.id:
        path = note_path(cluster)
        private_files.make_folder(path.parent)
        directories = {**directories, str(directory): marker.id}
        json_file.write(path, _Note(version=1, directories=directories))
    return own


def _read_note(cluster: Cluster) -> dict[str, str]:
    """{backup directory: id of the marker that it has to hold}."""
    path = note_path(cluster)
    if not path.exists():
        return {}
    hint = "Look whether the right disk is mounted, then remove that file."
    what = "a note of the backup directories used before"
    return json_file.read(path, _Note, what, hint).directories


def read_in(directory: Path) -> Marker | None:
    """The marker in a directory; None without one, or without the directory.

    Raises: FileUnreadable: where it cannot be read.
    """
    path = directory / FILE_NAME
    if not path.exists():
        return None
    hint = "Is the disk with the backups well? Else remove that file."
    return json_file.read(path, Marker, "the marker of a backup directory", hint)


def _lost(cluster: Cluster, marker: Marker | None) -> BackupDirectoryLost:
    directory = cluster.backup.directory
    if marker is not None:
        what = f"holds the {FILE_NAME} of another one"
    elif directory.exists():
        what = f"holds no {FILE_NAME}"
    else:
        what = "is not there"
    return BackupDirectoryLost(
        f"backups were made to {directory} before; now it {what}",
        "Is its disk mounted? To go on with what is there now, remove"
        f" {note_path(cluster)}.",
    )


def _of_another_history(cluster: Cluster, marker: Marker) -> OtherHistory:
    whose = f", of {marker.site}" if marker.site else ""
    return OtherHistory(
        f"{cluster.backup.directory} holds the backups of another cluster,"
        f" {marker.cluster}{whose} (history {marker.history}, and this is"
        f" {history.read(cluster)})",
        "Name another directory under [backup] in cluster.toml. To bring that"
        " cluster's state here, over what is here: bin/cluster restore --adopt. If its"
        " data are here already: bin/cluster backup --adopt.",
    )


def _never_used(cluster: Cluster, marker: Marker) -> OtherHistory:
    whose = f", of {marker.site}" if marker.site else ""
    return OtherHistory(
        f"{cluster.backup.directory} holds the backups of cluster {marker.cluster}"
        f"{whose}; this site, {cluster.directory}, has never backed up to it",
        _how_to_go_on(cluster),
    )


def _how_to_go_on(cluster: Cluster) -> str:
    return (
        "Name another directory under [backup] in cluster.toml. If that site is gone"
        " and this one takes its place: bin/cluster restore first, unless its data"
        " are here already; then bin/cluster backup --adopt."
    )
