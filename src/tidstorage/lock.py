"""One lock for every verb that moves data: backup, restore, prune, pack.

A lock of the kernel on an open file: it ends with the last process that holds
the file open, so that nothing is ever left behind to be cleaned up.
"""

import contextlib
import datetime
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidstorage import point
from tidstorage.cluster import Cluster
from tidstorage.errors import Locked

FILE_NAME = "operation.lock"


@contextlib.contextmanager
def hold(cluster: Cluster, verb: str) -> Iterator[int]:
    """Hold the cluster's lock; Locked where another process has it.

    Yields the descriptor.  A child that writes data gets it too (``pass_fds``):
    should we be killed, the lock lasts until that child has ended.
    """
    cluster.run_directory.mkdir(parents=True, exist_ok=True)
    path = cluster.run_directory / FILE_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(_held_by(path), "Wait for its end, then try again.") from None
        _write_owner(descriptor, verb)
        try:
            yield descriptor
        finally:
            os.ftruncate(descriptor, 0)
            # Said aloud: a child of ours may still be about to end.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _write_owner(descriptor: int, verb: str) -> None:
    owner = {
        "verb": verb,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": point.now().isoformat(timespec="seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode() + b"\n", 0)


def _held_by(path: Path) -> str:
    """Who holds the lock, in words, as far as its file tells."""
    try:
        owner: dict[str, Any] = json.loads(path.read_text())
        since = datetime.datetime.fromisoformat(owner["since"])
        what = f"{owner['verb']} (process {owner['pid']} on {owner['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        # Between its lock and its name, or ended and a child of it goes on.
        return f"another operation holds {path}"
    minutes, seconds = divmod(int((point.now() - since).total_seconds()), 60)
    return (
        f"{what} has been running for {minutes} min {seconds} s,"
        f" since {since.astimezone():%Y-%m-%d %H:%M:%S}"
    )
