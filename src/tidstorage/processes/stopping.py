"""Stops Zopes, then the daemon, then ZEO servers, and waits until they are gone."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import NotReady
from tidstorage.processes import supervisor
from tidstorage.processes.process import (
    START_ORDER,
    Process,
    find_kind,
    list_processes,
)
from tidstorage.processes.running import find_pids, find_undescribed_orphans
from tidstorage.processes.supervisor import Supervisor
from tidstorage.system import proc

Tell = Callable[[str], None]

#: Less than supervisor's own ``stopwaitsecs``, which would kill without a word.
STOP_SECONDS = 25.0
_KILL_SECONDS = 10.0
_POLL_SECONDS = 0.05


def stop_all(
    cluster: Cluster, processes: Sequence[Process], tell: Tell, seconds: float
) -> list[str]:
    """Stop everything, supervisord too; the labels of what was up."""
    # A supervisord that does not answer would start again what is stopped.
    supervised = supervisor.running(cluster)
    if supervised is None:
        supervisor.end_silent(cluster)
    described = {process.program for process in processes}
    stopped = stop_processes(
        cluster,
        processes,
        tell,
        seconds,
        undescribed=_up(supervised).keys() - described,
        orphans=find_undescribed_orphans(cluster, _up(supervised).values()),
    )
    if supervisor.end(cluster):
        stopped.append("supervisord")
    return stopped


def stop_processes(
    cluster: Cluster,
    processes: Sequence[Process],
    tell: Tell,
    seconds: float = STOP_SECONDS,
    *,
    undescribed: Collection[str] = (),
    orphans: Mapping[int, str] | None = None,
) -> list[str]:
    """Stop processes, those of one kind at once; the labels of what was up.

    No kind is touched before all of the kind before it are gone: a server that ends
    under a Zope leaves commits half finished.

    seconds: after which the processes of one kind are killed.  undescribed: programs
    that supervisor knows and the description does not.  orphans: {pid: program} of
    processes that nobody supervises; their programs may run under supervisor as well.
    """
    supervised = supervisor.running(cluster)
    orphans = orphans or {}
    labels = {process.program: process.label for process in list_processes(cluster)}
    stopped: list[str] = []
    for kind in reversed(START_ORDER):
        group = [process for process in processes if process.kind == kind]
        programs = [process.program for process in group]
        programs += sorted(name for name in undescribed if find_kind(name) == kind)
        ending = {pid: name for pid, name in orphans.items() if find_kind(name) == kind}
        up = _up(supervised)
        pids_of = find_pids(group)
        for pid in ending.keys() | {pid for pids in pids_of.values() for pid in pids}:
            if pid not in up.values():
                _signal(pid, signal.SIGTERM)
        for program in programs:
            if supervised is not None and program in up:
                supervised.stop(program)
            pids = {up.get(program, 0), *pids_of.get(program, ())} - {0}
            ending |= dict.fromkeys(pids, program)
        wait_for_end(
            {pid: labels.get(program, program) for pid, program in ending.items()},
            tell,
            seconds,
        )
        for program in programs:
            if program in up or program in pids_of:
                stopped.append(labels.get(program, program))
                tell(f"{stopped[-1]} is stopped")
        for pid, program in orphans.items():
            if find_kind(program) == kind:
                stopped.append(labels.get(program, program))
                tell(f"{stopped[-1]} (pid {pid}) ran outside supervision: ended")
    return stopped


def _up(supervised: Supervisor | None) -> dict[str, int]:
    """{program: its pid, or 0} of all that supervisor keeps up."""
    if supervised is None:
        return {}
    return {
        program.name: program.pid
        for program in supervised.programs().values()
        if program.is_up
    }


def wait_for_end(
    labels: Mapping[int, str], tell: Tell, seconds: float = STOP_SECONDS
) -> None:
    """Wait until the processes are gone; kill, and say so, what stays too long.

    labels: {pid: what it is}.

    Raises: NotReady: where they cannot be killed either.
    """
    if not (left := _left(labels, seconds)):
        return
    for pid in left:
        tell(f"{labels[pid]} (pid {pid}) did not end within {seconds:g} s: killed")
        _signal(pid, signal.SIGKILL)
    if left := _left(left, _KILL_SECONDS):
        names = ", ".join(f"{labels[pid]} (pid {pid})" for pid in left)
        raise NotReady(
            f"cannot be ended: {names}",
            "It hangs in the kernel (a dead disk or network file system?).",
        )


def _left(pids: Collection[int], seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if proc.is_alive(pid)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(_POLL_SECONDS)
    return []


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
