"""Is the backup directory the one that was used before?

Where a disk is not mounted there is an empty folder, or none.  A backup made
there would fill the root disk and be alone; a restore would say that there is no
set.  So a backup directory holds a marker with an id of its own, and the cluster
keeps a note of the ids beside its TID log.
"""

import uuid
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import BackupDirectoryLost
from tidstorage.system import json_file, private_files
from tidstorage.system.json_file import Shape

FILE_NAME = "tidstorage-backup.json"


class _Marker(Shape):
    """What is in a backup directory; cluster: the name of whose it is."""

    version: Literal[1]
    cluster: str
    id: str


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


def refuse_another(cluster: Cluster) -> None:
    """Refuse a backup directory that is not the one that was used before.

    Raises:
      BackupDirectoryLost: it is not there now, or is another one.
      FileUnreadable: the note or the marker cannot be read.
    """
    directory = cluster.backup.directory
    expected = _read_note(cluster).get(str(directory))
    if expected is not None:
        marker = _read_marker(directory)
        if marker is None or marker.id != expected:
            raise _lost(cluster, marker)


def mark(cluster: Cluster) -> None:
    """Mark the backup directory as the cluster's, and note that it has been used.

    Raises:
      BackupDirectoryLost: it is marked as another cluster's.
      FileUnreadable: the note or the marker cannot be read.
    """
    directory = cluster.backup.directory
    marker = _read_marker(directory)
    if marker is None:
        marker = _Marker(version=1, cluster=cluster.name, id=uuid.uuid4().hex)
        json_file.write(directory / FILE_NAME, marker)
    elif marker.cluster != cluster.name:
        raise BackupDirectoryLost(
            f"{directory} holds the backups of cluster {marker.cluster}",
            "Choose another directory; or remove"
            f" {directory / FILE_NAME}, if {marker.cluster} is what"
            f" {cluster.name} was called before.",
        )
    path = note_path(cluster)
    private_files.make_folder(path.parent)
    directories = {**_read_note(cluster), str(directory): marker.id}
    json_file.write(path, _Note(version=1, directories=directories))


def _read_note(cluster: Cluster) -> dict[str, str]:
    """{backup directory: id of the marker that it has to hold}."""
    path = note_path(cluster)
    if not path.exists():
        return {}
    hint = "Look whether the right disk is mounted, then remove that file."
    what = "a note of the backup directories used before"
    return json_file.read(path, _Note, what, hint).directories


def _read_marker(directory: Path) -> _Marker | None:
    """The marker in the directory; None without one, or without the directory."""
    path = directory / FILE_NAME
    if not path.exists():
        return None
    hint = "Is the disk with the backups well? Else remove that file."
    return json_file.read(path, _Marker, "the marker of a backup directory", hint)


def _lost(cluster: Cluster, marker: _Marker | None) -> BackupDirectoryLost:
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
