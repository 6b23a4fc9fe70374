"""Backup sets of a real cluster over some days, made once, copied for each test."""

import atexit
import dataclasses
import functools
import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from small_cluster import SmallCluster, small_cluster

from tidstorage.cluster.cluster import Cluster
from tidstorage.operation import lock
from tidstorage.sets.manifest import Manifest
from tidstorage.verbs.backup.backup import back_up_while_locked


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
                made.append(back_up_while_locked(cluster, full))
        small.stop()
        return SetsOverTime(small, made)
