"""Stops Zopes, then the daemon, then ZEO servers, and waits until they are gone."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import NotReady
from tidstorage.processes import supervisor
from tidstorage.processes.process import Process, group_by_kind
from tidstorage.processes.running import find_pids
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
    if supervisor.running(cluster) is None:
        supervisor.end_silent(cluster)
    stopped = stop_processes(cluster, processes, tell, seconds)
    stopped += _stop_undescribed(cluster, processes, tell)
    if supervisor.end(cluster):
        stopped.append("supervisord")
    return stopped


def stop_processes(
    cluster: Cluster,
    processes: Sequence[Process],
    tell: Tell,
    seconds: float = STOP_SECONDS,
) -> list[str]:
    """Stop processes, those of one kind at once; the labels of what was up.

    seconds: after which the processes of one kind are killed.
    """
    supervised = supervisor.running(cluster)
    stopped: list[str] = []
    for group in reversed(group_by_kind(processes)):
        pids_of = find_pids(group)
        up = _up(supervised)
        for process in group:
            if supervised is not None and process.program in up:
                supervised.stop(process.program)
                if pid := up[process.program]:
                    pids = pids_of.setdefault(process.program, [])
                    pids += [pid] if pid not in pids else []
            for pid in pids_of.get(process.program, []):
                if pid != up.get(process.program):
                    _signal(pid, signal.SIGTERM)
        labels = {
            pid: process.label
            for process in group
            for pid in pids_of.get(process.program, [])
        }
        wait_for_end(labels, tell, seconds)
        for process in group:
            if process.program in pids_of or process.program in up:
                stopped.append(process.label)
                tell(f"{process.label} is stopped")
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


def stop_programs(
    supervised: Supervisor, names: Collection[str], tell: Tell
) -> list[str]:
    """Stop programs by supervisor's name alone, and wait for their end."""
    up = {name: pid for name, pid in _up(supervised).items() if name in names}
    for name in up:
        supervised.stop(name)
    wait_for_end({pid: name for name, pid in up.items() if pid}, tell)
    return sorted(up)


def _stop_undescribed(
    cluster: Cluster, processes: Sequence[Process], tell: Tell
) -> list[str]:
    """What supervisor still runs of an older description."""
    supervised = supervisor.running(cluster)
    if supervised is None:
        return []
    names = supervised.programs().keys() - {process.program for process in processes}
    return stop_programs(supervised, names, tell)


def end_processes(labels: Mapping[int, str], tell: Tell) -> None:
    """End processes that nobody supervises, and wait until they are gone."""
    for pid in labels:
        _signal(pid, signal.SIGTERM)
    wait_for_end(labels, tell)


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
