"""How a cluster is: its parts, its newest backup set, the daemon's point."""

import datetime
from dataclasses import dataclass
from typing import Any

from tidstorage.cluster.cluster import Cluster, Daemon
from tidstorage.errors import FileUnreadable, NotConnected, TidstorageError
from tidstorage.operation import progress, results
from tidstorage.operation.progress import Snapshot
from tidstorage.operation.results import Results
from tidstorage.processes import supervisor
from tidstorage.processes.process import Process, list_processes
from tidstorage.processes.readiness import not_ready
from tidstorage.processes.running import find_pids
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock, proc
from tidstorage.system.address import ANSWER_SECONDS
from tidstorage.verbs.status import alarms
from tidstorage.wire import client


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part.

    state: ``running`` where it answers, ``silent`` where there is a process that
    does not, ``stopped``, or ``failed`` where supervisor gave it up.  reason: why
    it is silent.  pids, since: of its processes; of an unmanaged part unknown.
    supervised: whether supervisor would start it again.
    """

    part: Process
    state: str
    reason: str
    pids: tuple[int, ...]
    since: datetime.datetime | None
    supervised: bool


@dataclass(frozen=True, slots=True)
class Status:
    """The whole; ``dump`` is the daemon's {storage id: last TID}, None if silent.

    coverage: what the daemon knows of who stamps (`daemon.writers`); None where it
    does not say.  no_sets: why nobody can tell which sets there are, and what to do.
    runs: {verb: its last runs}.  alarms: what is wrong with them, in words.
    operations: the backups, restores... under way, and how far they are.
    """

    parts: tuple[PartStatus, ...]
    newest_set: Manifest | None
    dump: dict[str, int] | None
    coverage: dict[str, Any] | None
    no_sets: str | None
    operations: tuple[Snapshot, ...]
    runs: dict[str, Results | None]
    alarms: tuple[str, ...]


def status(cluster: Cluster) -> Status:
    """Ask everything."""
    parts = list_processes(cluster)
    processes = find_pids(parts)
    supervised = supervisor.running(cluster)
    programs = supervised.programs() if supervised is not None else {}
    found = tuple(
        _part_status(part, processes.get(part.program, []), programs.get(part.program))
        for part in parts
    )
    newest, no_sets = _newest_set(cluster)
    dump, coverage = _of_daemon(cluster.daemon)
    operations = tuple(progress.find_running(cluster))
    last_runs, said = _runs(cluster, newest)
    return Status(found, newest, dump, coverage, no_sets, operations, last_runs, said)


def _runs(
    cluster: Cluster, newest: Manifest | None
) -> tuple[dict[str, Results | None], tuple[str, ...]]:
    found: dict[str, Results | None] = {}
    said: list[str] = []
    for verb in results.VERBS:
        try:
            found[verb] = results.read(cluster, verb)
        except FileUnreadable as error:
            found[verb] = None
            said.append(str(error))
    begun = None if newest is None else newest.point.time
    said += alarms.alarms(cluster, found, begun, clock.now())
    return found, tuple(said)


def _newest_set(cluster: Cluster) -> tuple[Manifest | None, str | None]:
    try:
        manifests = BackupDirectory.open(cluster).manifests()
    except TidstorageError as error:
        # No reason to say nothing of the rest.
        return None, f"{error}. {error.hint}"
    return manifests[0] if manifests else None, None


def _part_status(
    part: Process, pids: list[int], program: supervisor.Program | None
) -> PartStatus:
    reason = not_ready(part) if pids or not part.managed else "no process"
    if reason is None:
        state = "running"
    elif pids:
        state = "silent"
    elif program is not None and program.state in {"FATAL", "BACKOFF", "EXITED"}:
        state = "failed"
    else:
        state = "stopped"
    return PartStatus(
        part=part,
        state=state,
        reason=reason or "",
        pids=tuple(pids),
        since=proc.begun(pids[0]) if pids else None,
        supervised=program is not None and program.pid in pids,
    )


def _of_daemon(
    daemon: Daemon,
) -> tuple[dict[str, int] | None, dict[str, Any] | None]:
    try:
        dump = client.dump(daemon.host, daemon.port, ANSWER_SECONDS)
        state = client.state(daemon.host, daemon.port, ANSWER_SECONDS)
    except NotConnected:
        return None, None
    return dump, state.get("coverage")
