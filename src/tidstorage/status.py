"""How a cluster is: its parts, its newest backup set, the daemon's point."""

import datetime
from dataclasses import dataclass

from tidstorage import occupants, supervisor
from tidstorage.backup import sets
from tidstorage.cluster import Cluster
from tidstorage.manifest import Manifest
from tidstorage.parts import Part, parts_of
from tidstorage.readiness import ask_daemon, not_ready
from tidstorage.running import processes_of


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part.

    state: ``running`` where it answers, ``silent`` where there is a process that
    does not, ``stopped``, or ``failed`` where supervisor gave it up.  reason: why
    it is silent.  pids, since: of its processes; of an unmanaged part unknown.
    supervised: whether supervisor would start it again.
    """

    part: Part
    state: str
    reason: str
    pids: tuple[int, ...]
    since: datetime.datetime | None
    supervised: bool


@dataclass(frozen=True, slots=True)
class Status:
    """The whole; ``dump`` is the daemon's {storage id: last TID}, None if silent."""

    parts: tuple[PartStatus, ...]
    newest_set: Manifest | None
    dump: dict[str, int] | None


def status(cluster: Cluster) -> Status:
    """Ask everything."""
    parts = parts_of(cluster)
    processes = processes_of(parts)
    supervised = supervisor.running(cluster)
    programs = supervised.programs() if supervised is not None else {}
    found = tuple(
        _part_status(part, processes.get(part.program, []), programs.get(part.program))
        for part in parts
    )
    manifests = sets.manifests(cluster.backup.directory)[0]
    return Status(found, manifests[0] if manifests else None, _dump(cluster))


def _part_status(
    part: Part, pids: list[int], program: supervisor.Program | None
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
        since=occupants.begun(pids[0]) if pids else None,
        supervised=program is not None and program.pid in pids,
    )


def _dump(cluster: Cluster) -> dict[str, int] | None:
    try:
        return ask_daemon((cluster.daemon.host, cluster.daemon.port))
    except OSError:
        return None
