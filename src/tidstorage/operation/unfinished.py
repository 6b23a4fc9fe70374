"""Restores that were interrupted: what they leave, and who refuses to go on."""

from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import InterruptedRestore


def refuse_unfinished(cluster: Cluster) -> None:
    """InterruptedRestore where a swap, or a cut in place, has to be ended first.

    A server started amid a swap would make an empty file where the new one is
    to come.
    """
    if swap_journal := interrupted_swap(cluster):
        raise InterruptedRestore(
            f"a restore was interrupted amid its swap ({swap_journal})"
        )
    if any(plan_beside(each.data_file).exists() for each in cluster.storages):
        raise InterruptedRestore(
            "tidstorage-restore was interrupted while it cut the files",
            "Run bin/tidstorage-restore again: it goes on where it stopped.",
        )


SWAP_JOURNAL = "restore-swap.json"


def swap_journal(cluster: Cluster) -> Path:
    """Where the swap under way is written down."""
    return cluster.run_directory / SWAP_JOURNAL


def interrupted_swap(cluster: Cluster) -> Path | None:
    """The journal of a swap that did not come to its end, if there is one."""
    path = swap_journal(cluster)
    return path if path.exists() else None


PLAN_SUFFIX = ".cut-plan"


def plan_beside(data_file: Path) -> Path:
    """Where the plan of a run that cuts a Data.fs is kept."""
    return data_file.with_name(data_file.name + PLAN_SUFFIX)
