"""Folders for restores to be looked at, none of which outlives its use for long.

A folder is in use as long as somebody holds the lock of the kernel on its lock
file: the command, and the Zope that it started.  What a killed run has left is
removed by the next one.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines.filestorage.lock import is_locked
from tidstorage.system import private_files

_LOCK = "in-use.lock"


@dataclass(frozen=True, slots=True)
class Scratch:
    """A scratch folder that is in use.

    lock: the descriptor that keeps it; a child that uses the folder gets it too.
    """

    folder: Path
    lock: int


def parent_of(cluster: Cluster) -> Path:
    """Where the folders of a cluster are."""
    return cluster.directory / "var" / "browse"


@contextlib.contextmanager
def folder(cluster: Cluster) -> Iterator[Scratch]:
    """Make an empty folder for the ``with`` block; remove those that nobody uses."""
    parent = parent_of(cluster)
    private_files.make_folder(parent)
    with _alone(parent):
        remove_left(parent)
        made = Path(tempfile.mkdtemp(prefix="", dir=parent))
        lock = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield Scratch(made, lock)
    finally:
        # A child that is still about to end keeps its folder for the next run.
        os.close(lock)
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """Let no other run make, or remove, a folder in the ``with`` block."""
    descriptor = os.open(parent / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_left(parent: Path) -> list[Path]:
    """Remove the folders that nobody uses; returns them."""
    left = [
        path
        for path in sorted(parent.iterdir())
        if path.is_dir() and not path.is_symlink() and not _is_in_use(path)
    ]
    for path in left:
        shutil.rmtree(path)
    return left


def _is_in_use(made: Path) -> bool:
    """Whether a process holds its lock; a killed one may have left no lock file."""
    return is_locked(made / _LOCK)
