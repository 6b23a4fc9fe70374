"""What of a cluster is up, whoever started it.

Not supervisor's word alone: its children outlive its sudden end, and servers can
be started by hand.  So processes, locks and addresses are asked themselves.
"""

from collections.abc import Sequence

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines.filestorage import lock
from tidstorage.errors import ClusterRunning
from tidstorage.processes import supervisor
from tidstorage.processes.process import Process, list_processes
from tidstorage.system import proc
from tidstorage.system.address import accepts


def find_pids(processes: Sequence[Process]) -> dict[str, list[int]]:
    """{program: pids of its living processes}; without an entry where none."""
    found: dict[str, list[int]] = {}
    scripts = {process.script.name: process for process in processes}
    for pid in proc.all_pids():
        arguments = proc.command_line(pid)[: proc.SCRIPT_WITHIN]
        for argument in arguments:
            process = scripts.get(argument.rpartition("/")[2])
            if process is not None and _lives(pid) and proc.runs(pid, process.script):
                found.setdefault(process.program, []).append(pid)
                break
    for process in processes:
        by_file = proc.pid_in(process.pid_file)
        if (
            by_file is not None
            and by_file not in found.get(process.program, [])
            and _lives(by_file)
            and proc.names(by_file, process.files)
        ):
            found.setdefault(process.program, []).append(by_file)
    return found


def _lives(pid: int) -> bool:
    return proc.is_alive(pid)


def find_running(cluster: Cluster) -> list[str]:
    """Every process that is up, in words for the operator; empty where none is.

    A held lock of a Data.fs and an address at which somebody answers count too,
    even where no process of ours is seen: the server may run in a container,
    under another user, or on another machine.
    """
    processes = list_processes(cluster)
    pids_of = find_pids(processes)
    found = [
        _in_words(process, pids_of.get(process.program, [])) for process in processes
    ]
    return [
        *(each for each in found if each is not None),
        *_held_files(cluster, pids_of),
        *_consoles(cluster),
        *(f"supervisord (pid {pid})" for pid in supervisor.pids(cluster)),
    ]


def _in_words(process: Process, pids: Sequence[int]) -> str | None:
    if pids:
        return f"{process.label} (pid {', '.join(map(str, pids))})"
    if not accepts(process.address):
        return None
    who = proc.find_listener(process.address) or "an unknown process"
    return f"{process.label} or another at its address {process.address_text} ({who})"


def _held_files(cluster: Cluster, pids_of: dict[str, list[int]]) -> list[str]:
    servers = {
        process.name: process.program
        for process in list_processes(cluster)
        if process.kind == "zeo"
    }
    return [
        f"a process that has {storage.data_file} open for writing"
        for storage in cluster.storages
        if not pids_of.get(servers[storage.zeo]) and lock.is_held(storage.data_file)
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
    if processes := find_running(cluster):
        raise ClusterRunning(f"still running: {', '.join(processes)}")
