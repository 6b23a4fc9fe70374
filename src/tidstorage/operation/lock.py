"""One lock for every verb that moves data: backup, restore, prune, pack.

It is a lock of the kernel on an open file.  It ends with the last process that has
the file open, so that a killed run leaves no lock behind.

A second run does not wait unless it is told to (``--wait``, `waiting`): cron
must not pile runs up, and an operator wants to know at once.
"""

import contextlib
import contextvars
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import AwareDatetime

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import FileUnreadable, Locked
from tidstorage.sets import marker
from tidstorage.system import clock, json_file, users

FILE_NAME = "operation.lock"

#: Seconds between two attempts of a run that waits.
_PAUSE = 0.1
_patience = contextvars.ContextVar("patience", default=0.0)


@dataclass(frozen=True, slots=True)
class _Owner:
    """Who holds the lock, as its file says it; since: to the second."""

    verb: str
    pid: int
    host: str
    since: AwareDatetime


@contextlib.contextmanager
def waiting(seconds: float) -> Iterator[None]:
    """Let every `hold` in the ``with`` block wait so long for another run to end."""
    token = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(token)


@contextlib.contextmanager
def hold(cluster: Cluster, verb: str) -> Iterator[int]:
    """Hold the cluster's lock in the ``with`` block.

    Yields the descriptor of its file.  A child that writes data gets it too
    (``pass_fds``): should we be killed, the lock lasts until that child has ended.

    Raises: Locked: where another process holds it, also after waiting.
    """
    cluster.run_directory.mkdir(parents=True, exist_ok=True)
    with hold_file(cluster.run_directory / FILE_NAME, verb) as descriptor:
        yield descriptor


@contextlib.contextmanager
def hold_directory(directory: Path, verb: str) -> Iterator[None]:
    """Hold the lock that lies in a backup directory, where that is in use.

    Several sites, or hosts, may write to one.  A directory that may only be read has
    no lock to hold, and nobody changes it.

    Raises: Locked: where another process holds it, also after waiting.
    """
    marked = (directory / marker.FILE_NAME).is_file()
    if not marked or not os.access(directory, os.W_OK):
        yield
        return
    path = directory / FILE_NAME
    with hold_file(path, verb):
        # Root may run a verb, and the next run is the owner's.
        users.give_like((path,), directory)
        yield


@contextlib.contextmanager
def hold_file(path: Path, verb: str) -> Iterator[int]:
    """Hold a lock on any file, as `hold` does; the file stays when the lock ends."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        _acquire(descriptor, path)
        _write_owner(descriptor, verb)
        try:
            yield descriptor
        finally:
            os.ftruncate(descriptor, 0)
            # Closing is not enough: a child of ours may still have it open.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    patience = _patience.get()
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_PAUSE)
                continue
            waited = f"; waited {patience:g} s for it" if patience else ""
            raise Locked(
                _describe_owner(path) + waited,
                "Try again after its end, or let it wait with --wait SECONDS.",
            ) from None


def _write_owner(descriptor: int, verb: str) -> None:
    since = clock.now().replace(microsecond=0)
    owner = _Owner(verb, os.getpid(), socket.gethostname(), since)
    os.ftruncate(descriptor, 0)
    # Only a courtesy: the lock is held also where a full disk takes no name.
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, json_file.to_text(owner, indent=None).encode(), 0)


def _describe_owner(path: Path) -> str:
    """Who holds the lock, in words, as far as its file tells."""
    try:
        owner = json_file.read(path, _Owner, "the owner of a lock")
    except FileUnreadable:
        # It has not written its name yet, or has ended and a child of it goes on.
        return f"another operation holds {path}"
    running = int((clock.now() - owner.since).total_seconds())
    minutes, seconds = divmod(running, 60)
    return (
        f"{owner.verb} (process {owner.pid} on {owner.host}) has been running for"
        f" {minutes} min {seconds} s,"
        f" since {owner.since.astimezone():%Y-%m-%d %H:%M:%S}"
    )
