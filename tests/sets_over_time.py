"""Backup sets of a real cluster over some days, made once, copied for each test."""

import dataclasses
import itertools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from small_cluster import SmallCluster, small_cluster

from tidstorage import lock
from tidstorage.backup.perform import back_up_while_locked
from tidstorage.cluster import Cluster
from tidstorage.manifest import Manifest


@dataclasses.dataclass(frozen=True)
class SetsOverTime:
    """The sets, oldest first: two full ones, each with two increments behind it.

    small: the cluster, whose servers have stopped.
    """

    small: SmallCluster
    made: Sequence[Manifest]

    def cluster(self, folder: Path, name: str = "backup") -> Cluster:
        """The cluster with a backup directory of its own, a copy, below a folder."""
        cluster = self.small.cluster()
        shutil.copytree(cluster.backup.directory, folder / name)
        return dataclasses.replace(
            cluster,
            directory=folder,
            run_directory=folder / "run",
            daemon=dataclasses.replace(cluster.daemon, tid_log=folder / "tidlog"),
            backup=dataclasses.replace(cluster.backup, directory=folder / name),
            verify=dataclasses.replace(cluster.verify, scratch=folder / "scratch"),
        )


@contextmanager
def sets_over_time(folder: Path) -> Iterator[SetsOverTime]:
    """Make them; every set has new transactions in every storage, and new blobs."""
    with small_cluster(folder) as small:
        cluster, made = small.cluster(compress=True), []
        for seed, full in zip(itertools.count(1), (True, False, False) * 2):
            small.write(seed, 9)
            small.write(seed + 50, 2, group=[*small.addresses])
            with lock.hold(cluster, "backup") as held:
                made.append(back_up_while_locked(cluster, held, full))
        small.stop()
        yield SetsOverTime(small, made)
