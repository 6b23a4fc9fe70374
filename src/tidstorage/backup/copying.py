"""Second phase of a backup: repozo copies every storage, several at a time.

repozo runs with ``--quick``: it compares only the last increment with its
source.  Without, it reads the whole repository once and the source twice, each
time; and what that would find is found elsewhere.  A pack or a cut shifts every
byte behind it, also the last increment; a byte that rots in the repository is
found by the manifest's digests.
"""

import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tidstorage import child
from tidstorage.backup import layout, repository
from tidstorage.backup.moved import SourceMoved
from tidstorage.backup.prepare import Preparation
from tidstorage.cluster import Cluster, Storage
from tidstorage.errors import EngineFailed, NoSpace
from tidstorage.manifest import Kind

_NO_SPACE = tuple(
    os.strerror(number) for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
)


@dataclass(frozen=True, slots=True)
class Copied:
    """A storage's copy: bytes 0 up to ``end`` of the Data.fs of that inode."""

    kind: Kind
    inode: int
    parts: Sequence[repository.Part]

    @property
    def end(self) -> int:
        return self.parts[-1].end


def copy_all(
    cluster: Cluster, preparation: Preparation, start_over: bool, lock: int
) -> dict[str, Copied]:
    """{storage id: its copy}, made by ``cluster.backup.jobs`` repozos at a time.

    start_over: full copies, whatever the repositories hold.  lock: descriptor
    that the children keep open.  SourceMoved, EngineFailed or NoSpace.
    """

    def copy(storage: Storage) -> Copied:
        existing = preparation.existing[storage.id]
        return _copy(cluster, storage, existing, start_over, lock)

    with ThreadPoolExecutor(cluster.backup.jobs) as pool:
        copies = pool.map(copy, cluster.storages)
        return dict(zip((each.id for each in cluster.storages), copies, strict=True))


def _copy(
    cluster: Cluster,
    storage: Storage,
    existing: Sequence[str],
    start_over: bool,
    lock: int,
) -> Copied:
    folder = layout.repository(cluster.backup.directory, storage.id)
    inode = storage.data_file.stat().st_ino
    _run_repozo(cluster, storage, folder, start_over, lock)
    parts = repository.newest_chain(folder)
    if not parts:
        raise EngineFailed(f"repozo left no copy of storage {storage.id} in {folder}")
    return Copied(_kind(parts, existing), inode, parts)


def refuse_replaced(cluster: Cluster, copies: Mapping[str, Copied]) -> None:
    """SourceMoved where a Data.fs is not the one any more that was to be copied.

    repozo opens it twice, and what is examined is read anew: all of that has to
    be one and the same file.
    """
    for storage in cluster.storages:
        if storage.data_file.stat().st_ino != copies[storage.id].inode:
            raise SourceMoved(f"{storage.data_file} was replaced during the backup")


def _kind(parts: Sequence[repository.Part], existing: Sequence[str]) -> Kind:
    if parts[-1].name in existing:
        return "unchanged"
    return "full" if parts[-1].is_full else "incremental"


def _run_repozo(
    cluster: Cluster, storage: Storage, folder: Path, start_over: bool, lock: int
) -> None:
    # In the repository itself: what repozo notes is then free of our path, and
    # the whole directory can be moved.
    command = [*child.python("ZODB.scripts.repozo"), "-B", "-Q", "-r", "."]
    command += ["-f", str(storage.data_file)]
    command += ["-z"] if cluster.backup.compress else []
    command += ["-F"] if start_over else []
    finished = subprocess.run(
        command,
        cwd=folder,
        env=child.environment(),
        umask=layout.CHILD_UMASK,
        pass_fds=[lock],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode == 0:
        return
    lines = finished.stderr.strip().splitlines() or ["(it said nothing)"]
    what = (
        f"repozo failed for storage {storage.id} with status"
        f" {finished.returncode}: {lines[-1]}"
    )
    if any(text in finished.stderr for text in _NO_SPACE):
        raise NoSpace(
            what,
            "Make room in the backup directory and run the backup again; earlier"
            " sets are as good as before.",
        )
    raise EngineFailed(what, "Earlier sets are as good as before.")
