"""How a cluster is: its processes, its newest backup set, the daemon's point."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidstorage.cluster.cluster import Cluster, Daemon
from tidstorage.errors import FileUnreadable, NotConnected, TidstorageError
from tidstorage.operation import progress, results
from tidstorage.operation.progress import Snapshot
from tidstorage.operation.results import Results
from tidstorage.points import known_files
from tidstorage.processes import supervisor
from tidstorage.processes.process import Process, list_processes
from tidstorage.processes.readiness import not_ready
from tidstorage.processes.running import find_pids
from tidstorage.sets import history
from tidstorage.sets.blob_losses import describe_losses
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock, proc
from tidstorage.system.address import ANSWER_SECONDS
from tidstorage.verbs.status.alarms import find_alarms
from tidstorage.wire import client


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How one part of the cluster is: a ZEO server, a Zope, or the daemon.

    state: ``running`` where it answers, ``silent`` where there is a process that
    does not, ``stopped``, or ``failed`` where supervisor gave it up.  reason: why
    it does not answer, in words; empty where it does.  pids: of its processes;
    since: when the first of them began, in UTC; both unknown of an unmanaged part.
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
    """How the whole cluster is.

    dump: the daemon's point, {storage id: last TID}; None where it does not answer.
    coverage: what the daemon knows of who stamps (`daemon.coverage`); None where it
    does not say.  no_sets: why nobody can tell which sets there are, and what to do;
    None where that is known.  operations: the backups, restores and so on that are
    under way, and how far they are.  runs: {verb: its last runs}; None of one that
    never ran.  alarms: what waits too long, what is wrong with the data files and with
    the runs, and what blobs the newest set says are lost, in words.  files_changed:
    whether a data file is not what was there before.
    """

    parts: tuple[PartStatus, ...]
    newest_set: Manifest | None
    dump: dict[str, int] | None
    coverage: dict[str, Any] | None
    no_sets: str | None
    operations: tuple[Snapshot, ...]
    runs: dict[str, Results | None]
    alarms: tuple[str, ...]
    files_changed: bool = False


def status(cluster: Cluster) -> Status:
    """Ask everything; what does not answer is told as such, and is no error."""
    all_parts = list_processes(cluster)
    processes = find_pids(all_parts)
    supervised = supervisor.running(cluster)
    programs = supervised.programs() if supervised is not None else {}
    parts = tuple(
        _part_status(part, processes.get(part.program, []), programs.get(part.program))
        for part in all_parts
    )
    newest_set, no_sets = _find_newest_set(cluster)
    dump, coverage, waiting = _ask_daemon(cluster.daemon)
    changed = _find_changed_files(cluster)
    runs, alarms = _read_runs(cluster, newest_set, changed)
    return Status(
        parts=parts,
        newest_set=newest_set,
        dump=dump,
        coverage=coverage,
        no_sets=no_sets,
        operations=tuple(progress.find_running(cluster)),
        runs=runs,
        alarms=(*waiting, *alarms),
        files_changed=bool(changed),
    )


def _read_runs(
    cluster: Cluster, newest_set: Manifest | None, changed: Sequence[str]
) -> tuple[dict[str, Results | None], tuple[str, ...]]:
    """{verb: its last runs}, and in words what is wrong with them."""
    runs: dict[str, Results | None] = {}
    alarms: list[str] = []
    for verb in results.VERBS:
        try:
            runs[verb] = results.read(cluster, verb)
        except FileUnreadable as error:
            runs[verb] = None
            alarms.append(str(error))
    begun = None if newest_set is None else newest_set.point.time
    alarms += changed
    alarms += find_alarms(cluster, runs, begun, clock.now())
    if newest_set is not None:
        alarms += [
            f"{words} (as of set {newest_set.id})"
            for words in describe_losses(newest_set)
        ]
    return runs, tuple(alarms)


def _find_changed_files(cluster: Cluster) -> list[str]:
    """Data files that are not what was there before, in words."""
    try:
        history.refuse_others_files(cluster)
        record = known_files.record_path(cluster)
        findings = known_files.examine(record, cluster.storages)
    except TidstorageError as error:
        return [f"{error}. {error.hint}"]
    return [found.words for found in findings if found.words]


def _find_newest_set(cluster: Cluster) -> tuple[Manifest | None, str | None]:
    """The newest set, and why nobody can tell which there are."""
    try:
        directory = BackupDirectory.open(cluster)
        manifests = directory.manifests()
        for unread in directory.unread_manifests().values():
            raise unread
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


def _ask_daemon(
    daemon: Daemon,
) -> tuple[dict[str, int] | None, dict[str, Any] | None, tuple[str, ...]]:
    """The daemon's point, what it knows of who stamps, and what waits, in words.

    None where it is silent.
    """
    try:
        dump = client.dump(daemon.host, daemon.port, ANSWER_SECONDS)
        state = client.state(daemon.host, daemon.port, ANSWER_SECONDS)
    except NotConnected:
        return None, None, ()
    waiting = (state.get("observed") or {}).get("alarms", ())
    return dump, state.get("coverage"), tuple(waiting)
