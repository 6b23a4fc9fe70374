"""What of a cluster is up, whoever started it.

Not supervisor's word alone: its children outlive its sudden end, and servers can
be started by hand.  So processes, locks and addresses are asked themselves.
"""

from collections.abc import Sequence

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines.filestorage import lock
from tidstorage.errors import ClusterRunning
from tidstorage.processes import supervisor
from tidstorage.processes.parts import Part, parts_of
from tidstorage.system import proc
from tidstorage.system.address import accepts


def processes_of(parts: Sequence[Part]) -> dict[str, list[int]]:
    """{program: pids of its living processes}; without an entry where none."""
    found: dict[str, list[int]] = {}
    scripts = {part.script.name: part for part in parts}
    for pid in proc.all_pids():
        arguments = proc.command_line(pid)[: proc.SCRIPT_WITHIN]
        for argument in arguments:
            part = scripts.get(argument.rpartition("/")[2])
            if part is not None and _lives(pid) and proc.runs(pid, part.script):
                found.setdefault(part.program, []).append(pid)
                break
    for part in parts:
        by_file = proc.pid_in(part.pid_file)
        if (
            by_file is not None
            and by_file not in found.get(part.program, [])
            and _lives(by_file)
            and proc.names(by_file, part.files)
        ):
            found.setdefault(part.program, []).append(by_file)
    return found


def _lives(pid: int) -> bool:
    return proc.is_alive(pid)


def running_parts(cluster: Cluster) -> list[str]:
    """Every part that is up, in words for the operator; empty where none is.

    A held lock of a Data.fs and an address at which somebody answers count too,
    even where no process of ours is seen: the server may run in a container,
    under another user, or on another machine.
    """
    parts = parts_of(cluster)
    processes = processes_of(parts)
    found = [_in_words(part, processes.get(part.program, [])) for part in parts]
    return [
        *(each for each in found if each is not None),
        *_held_files(cluster, processes),
        *_consoles(cluster),
        *(f"supervisord (pid {pid})" for pid in supervisor.pids(cluster)),
    ]


def _in_words(part: Part, pids: Sequence[int]) -> str | None:
    if pids:
        return f"{part.label} (pid {', '.join(map(str, pids))})"
    if not accepts(part.address):
        return None
    who = proc.occupant(part.address) or "an unknown process"
    return f"{part.label} or another at its address {part.address_text} ({who})"


def _held_files(cluster: Cluster, processes: dict[str, list[int]]) -> list[str]:
    servers = {
        part.name: part.program for part in parts_of(cluster) if part.kind == "zeo"
    }
    return [
        f"a process that has {storage.data_file} open for writing"
        for storage in cluster.storages
        if not processes.get(servers[storage.zeo]) and lock.is_held(storage.data_file)
    ]


def _consoles(cluster: Cluster) -> list[str]:
    """Zope's consoles and scripts: they write like any other Zope."""
    scripts = {
        f"zope-{each.name}-console": each.name for each in cluster.zopes if each.managed
    }
    found = []
    for pid in proc.all_pids():
        arguments = proc.command_line(pid)[: proc.SCRIPT_WITHIN]
        for argument in arguments:
            name = scripts.get(argument.rpartition("/")[2])
            if name is not None and proc.runs(
                pid, cluster.bin_directory / f"zope-{name}-console"
            ):
                found.append(f"a console of Zope {name} (pid {pid})")
    return found


def refuse_running(cluster: Cluster) -> None:
    """ClusterRunning where a server, a Zope or the daemon is up."""
    if parts := running_parts(cluster):
        raise ClusterRunning(f"still running: {', '.join(parts)}")
