"""Restores that were interrupted: the files by which they are known."""

from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import InterruptedRestore

SWAP_JOURNAL = "restore-swap.json"
PLAN_SUFFIX = ".cut-plan"


def refuse_unfinished(cluster: Cluster) -> None:
    """Refuse to go on where a swap of files, or a cut in place, has to be ended first.

    A server that is started during a swap would make an empty file at the place of
    the new one.

    Raises: InterruptedRestore: where a restore was interrupted.
    """
    if swap_journal := interrupted_swap(cluster):
        raise InterruptedRestore(
            f"a restore was interrupted while it swapped the files ({swap_journal})"
        )
    if any(plan_beside(storage.data_file).exists() for storage in cluster.storages):
        raise InterruptedRestore(
            "tidstorage-restore was interrupted while it cut the files",
            "Run bin/tidstorage-restore again: it goes on where it stopped, or says"
            " what stands in its way.",
        )


def swap_journal(cluster: Cluster) -> Path:
    """The file that says which files are being swapped."""
    return cluster.run_directory / SWAP_JOURNAL


def interrupted_swap(cluster: Cluster) -> Path | None:
    """The journal of a swap that has not ended; None where there is none."""
    path = swap_journal(cluster)
    return path if path.exists() else None


def plan_beside(data_file: Path) -> Path:
    """The file that says where a Data.fs is being cut."""
    return data_file.with_name(data_file.name + PLAN_SUFFIX)
