"""The identity of a cluster's history: which site's data and backups these are.

A name says little: two clusters may have the same, and a copy of a folder has it
too.  So what one `init` (or the first backup of a cluster) begins has a random id.
It is kept with the TID log and beside every Data.fs, and goes into the backup
directory and into every manifest.
"""

import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import OtherHistory
from tidstorage.system import clock, json_file, private_files, users
from tidstorage.system.json_file import Shape, StoredPath

#: Behind the name of a Data.fs: the file that says of which history it is.
HISTORY_SUFFIX = ".history"
_MACHINE_ID = Path("/etc/machine-id")


class _History(Shape):
    """What is with the TID log."""

    version: Literal[1]
    history: str
    begun: AwareDatetime


class _HistoryBeside(Shape):
    """What is beside a Data.fs; storage: its id then."""

    version: Literal[1]
    history: str
    storage: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where a cluster lives, as far as that tells it from a copy of it.

    host: name of the machine.  machine: its id, empty where it has none.
    directory: the cluster's folder.  inode: of the folder of its TID log, which
    stays the same when the folder is moved, and never when it is copied.
    """

    __pydantic_config__ = json_file.EXACT

    host: str
    machine: str
    directory: StoredPath
    inode: int

    def is_same(self, other: "Site") -> bool:
        """Whether both are one site, that may have been moved or got another host
        name, or was copied back to its place after a loss."""
        same_place = (self.host, self.directory) == (other.host, other.directory)
        if self.inode == other.inode and same_place:
            return True
        if self.machine and other.machine and self.machine != other.machine:
            return False
        return same_place or self.inode == other.inode

    def __str__(self) -> str:
        return f"{self.directory} on {self.host}"


def here(cluster: Cluster) -> Site:
    """Where the cluster lives now.

    Raises: OSError: where the folder of its TID log is not there.
    """
    try:
        machine = _MACHINE_ID.read_text().strip()
    except OSError:
        machine = ""
    inode = history_path(cluster).parent.stat().st_ino
    return Site(socket.gethostname(), machine, cluster.directory, inode)


def history_path(cluster: Cluster) -> Path:
    """The file with the history's id, with the TID log."""
    return cluster.daemon.tid_log.with_name("history.json")


def path_beside(data_file: Path) -> Path:
    """The file with the history's id, beside a Data.fs."""
    return data_file.with_name(data_file.name + HISTORY_SUFFIX)


def read(cluster: Cluster) -> str | None:
    """The id of the cluster's history; None where it has none yet.

    Where what was with the TID log is lost, the files beside the data tell.

    Raises:
      FileUnreadable: what tells it is broken.
      OtherHistory: the files beside the data tell different ids.
    """
    path = history_path(cluster)
    if path.exists():
        hint = (
            "Remove it: the files beside the data, or the backup directory, have the"
            " same id."
        )
        return json_file.read(path, _History, "the id of a history", hint).history
    found = {beside.history: path for path, beside in _read_beside(cluster)}
    if len(found) > 1:
        raise OtherHistory(
            "data files of several histories:"
            f" {', '.join(str(path) for path in found.values())}",
            "Which of them belong together? Move the others away.",
        )
    return next(iter(found), None)


def refuse_others_files(cluster: Cluster) -> None:
    """Refuse files that belong to another history, or to another storage of this one.

    Raises:
      OtherHistory: there are such files.
      FileUnreadable: what tells it is broken.
    """
    history = read(cluster)
    for storage in cluster.storages:
        path = path_beside(storage.data_file)
        if not path.exists():
            continue
        beside = _read_one(path)
        if beside.storage not in (storage.id, *storage.aliases):
            raise OtherHistory(
                f"storage {storage.id}: {storage.data_file} was the file of storage"
                f" {beside.storage}, as {path.name} beside it says",
                "Is its path in cluster.toml right? If it is meant to be, remove"
                f" {path}.",
            )
        if beside.history != history:
            raise OtherHistory(
                f"storage {storage.id}: {storage.data_file} is of history"
                f" {beside.history}, and this cluster of {history}",
                "Is its path in cluster.toml right, and the right disk mounted? If it"
                f" is meant to be, remove {path}.",
            )


def establish(cluster: Cluster, history: str | None = None) -> str:
    """Let the cluster have a history, and keep its id everywhere it has to be.

    history: the id to take; None: the one it has, or a new one.  Returns it.

    Raises:
      FileUnreadable, OtherHistory: as `read`.
      OSError: it cannot be written.
    """
    path = history_path(cluster)
    present = read(cluster)
    if history is None:
        history = present or uuid.uuid4().hex
    if history != present or not path.exists():
        private_files.make_folder(path.parent)
        json_file.write(path, _History(version=1, history=history, begun=clock.now()))
        users.give_like((path,), path.parent)
    for storage in cluster.storages:
        _establish_beside(history, storage.id, storage.data_file)
    return history


def _establish_beside(history: str, storage_id: str, data_file: Path) -> None:
    path = path_beside(data_file)
    if not data_file.exists():
        # Beside nothing it would only say that something is lost here.
        return
    beside = _HistoryBeside(version=1, history=history, storage=storage_id)
    if not path.exists() or _read_one(path) != beside:
        json_file.write(path, beside)
        users.give_like((path,), data_file)


def _read_beside(cluster: Cluster) -> Iterator[tuple[Path, _HistoryBeside]]:
    for storage in cluster.storages:
        path = path_beside(storage.data_file)
        if path.exists():
            yield path, _read_one(path)


def _read_one(path: Path) -> _HistoryBeside:
    hint = "Remove it: it is written anew."
    return json_file.read(path, _HistoryBeside, "the id of a history", hint)
