"""Is the backup directory the one that was used before?

Where a disk is not mounted there is an empty folder, or none.  A backup made
there would fill the root disk and be alone; a restore would say that there is no
set.  So a backup directory holds a marker with an id of its own, and the cluster
keeps a note of the ids beside its TID log.
"""

import uuid
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.errors import BackupDirectoryLost
from tidstorage.sets import layout
from tidstorage.system import disks, durable, json_file, permissions
from tidstorage.system.json_file import Shape


class _Marker(Shape):
    version: Literal[1]
    cluster: str
    id: str


class _Note(Shape):
    version: Literal[1]
    directories: dict[str, str]


def note_path(cluster: Cluster) -> Path:
    """Where the cluster keeps {backup directory: id of its marker}."""
    return cluster.daemon.tid_log.with_name("backup-directories.json")


def is_noted(cluster: Cluster) -> bool:
    """Whether the backup directory has been used before; FileUnreadable."""
    return str(cluster.backup.directory) in _noted(cluster)


def known(cluster: Cluster) -> Path:
    """The backup directory, to read from.

    BackupDirectoryLost where it was used before and is not there now, or is
    another one; FileUnreadable where nobody can tell.
    """
    directory = cluster.backup.directory
    expected = _noted(cluster).get(str(directory))
    if expected is not None:
        found = _marker(directory)
        if found is None or found.id != expected:
            raise _lost(cluster, found)
    return directory


def begin(cluster: Cluster) -> Path:
    """The backup directory, to write to: made, marked and noted where it is new.

    Raises what `known` raises, and BackupDirectoryLost where it is another
    cluster's; NotPermitted or Unprotected where others could change or read it.
    """
    directory = known(cluster)
    if is_noted(cluster):
        _refuse_unprotected(cluster)
        return directory
    layout.make_folder(directory)
    _refuse_unprotected(cluster)
    found = _marker(directory)
    if found is None:
        found = _Marker(version=1, cluster=cluster.name, id=uuid.uuid4().hex)
        _write(directory / layout.MARKER, found)
    elif found.cluster != cluster.name:
        raise BackupDirectoryLost(
            f"{directory} holds the backups of cluster {found.cluster}",
            "Choose another directory; or remove"
            f" {directory / layout.MARKER}, if {found.cluster} is what"
            f" {cluster.name} was called before.",
        )
    path = note_path(cluster)
    layout.make_folder(path.parent)
    directories = {**_noted(cluster), str(directory): found.id}
    _write(path, _Note(version=1, directories=directories))
    return directory


def _refuse_unprotected(cluster: Cluster) -> None:
    directory = cluster.backup.directory
    permissions.refuse_other_owner(directory)
    permissions.refuse_links(
        layout.folders(directory, [each.id for each in cluster.storages])
    )
    for storage in cluster.storages:
        folder = layout.repository(directory, storage.id)
        if folder.is_dir():
            permissions.refuse_links(folder.iterdir())
            permissions.refuse_more_readable(directory, folder, storage.data_file)


def on_the_data_disk(cluster: Cluster) -> list[Storage]:
    """The storages that would be lost with the disk that their backups are on."""
    files = [each.data_file for each in cluster.storages if each.data_file.exists()]
    shared = disks.on_one_disk(cluster.backup.directory, files)
    return [each for each in cluster.storages if each.data_file in shared]


def _write(path: Path, shape: Shape) -> None:
    durable.replace_text(path, shape.model_dump_json(indent=1) + "\n")


def _noted(cluster: Cluster) -> dict[str, str]:
    """{backup directory: id of the marker that it has to hold}."""
    path = note_path(cluster)
    if not path.exists():
        return {}
    hint = "Look whether the right disk is mounted, then remove that file."
    what = "a note of the backup directories used before"
    return json_file.read(path, _Note, what, hint).directories


def _marker(directory: Path) -> _Marker | None:
    """None without a marker, or without the directory."""
    path = directory / layout.MARKER
    if not path.exists():
        return None
    hint = "Is the disk with the backups well? Else remove that file."
    return json_file.read(path, _Marker, "the marker of a backup directory", hint)


def _lost(cluster: Cluster, found: _Marker | None) -> BackupDirectoryLost:
    directory = cluster.backup.directory
    if found is not None:
        what = f"holds the {layout.MARKER} of another one"
    elif directory.exists():
        what = f"holds no {layout.MARKER}"
    else:
        what = "is not there"
    return BackupDirectoryLost(
        f"backups were made to {directory} before; now it {what}",
        "Is its disk mounted? To go on with what is there now, remove"
        f" {note_path(cluster)}.",
    )
