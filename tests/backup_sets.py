"""Backup sets of a small cluster: some over days, and what tests do with sets."""

import atexit
import dataclasses
import functools
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from small_cluster import SmallCluster, small_cluster
from ZEO.ClientStorage import ClientStorage

from tidstorage.cluster.cluster import Cluster
from tidstorage.operation import lock
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system import child
from tidstorage.verbs.backup.backup import back_up_while_locked


def repozo(*arguments):
    """Stock repozo."""
    return subprocess.run(
        [*child.python("ZODB.scripts.repozo"), *map(str, arguments)],
        env=child.environment(),
        capture_output=True,
        text=True,
        check=True,
    )


def backup_directory(cluster):
    """The backup directory of a cluster, whatever was there before."""
    return BackupDirectory(cluster.backup.directory)


def whole_sets(cluster):
    """Newest first."""
    return [each for each in backup_directory(cluster).sets() if each.is_whole]


def with_backup(cluster, **changes):
    """The cluster with other options of its backup."""
    backup = dataclasses.replace(cluster.backup, **changes)
    return dataclasses.replace(cluster, backup=backup)


def flip_a_byte(path):
    """What a disk does to a file over the years."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pack(small):
    """Pack storage catalog, of which there is something to pack away then."""
    small.write(7, 6, group=["catalog"])
    client = ClientStorage(small.alpha.address, storage="catalog")
    client.pack(wait=True)
    client.close()


@dataclasses.dataclass(frozen=True)
class SetsOverTime:
    """The sets, oldest first: two full ones, each with two increments behind it.

    small: the cluster, whose servers have stopped.
    """

    small: SmallCluster
    made: Sequence[Manifest]

    def cluster(self, folder: Path) -> Cluster:
        """The cluster with a backup directory of its own, a copy, below a folder."""
        cluster = self.small.cluster()
        shutil.copytree(cluster.backup.directory, folder / "backup")
        return dataclasses.replace(
            cluster,
            directory=folder,
            run_directory=folder / "run",
            daemon=dataclasses.replace(cluster.daemon, tid_log=folder / "tidlog"),
            backup=dataclasses.replace(cluster.backup, directory=folder / "backup"),
            verify=dataclasses.replace(cluster.verify, scratch=folder / "scratch"),
        )


@functools.cache
def sets_over_time() -> SetsOverTime:
    """The same for all tests of a process.

    Every set has new transactions in every storage, and new blobs.
    """
    folder = Path(tempfile.mkdtemp(prefix="sets-over-time-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with small_cluster(folder) as small:
        cluster, made = small.cluster(compress=True), []
        for seed, full in zip(itertools.count(1), (True, False, False) * 2):
            small.write(seed, 9)
            small.write(seed + 50, 2, group=[*small.addresses])
            with lock.hold(cluster, "backup"):
                made.append(back_up_while_locked(cluster, full=full))
        small.stop()
        return SetsOverTime(small, made)
