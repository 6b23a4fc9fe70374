"""Finds the processes of a cluster that run, whoever started them.

To ask supervisor is not enough: its children outlive its sudden end, and servers can be
started by hand.  So processes, locks and addresses are looked at too.
"""

from collections.abc import Collection, Sequence

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines.filestorage import lock
from tidstorage.errors import ClusterRunning
from tidstorage.processes import supervisor
from tidstorage.processes.process import Process, list_processes
from tidstorage.system import proc
from tidstorage.system.address import accepts


def find_pids(processes: Sequence[Process]) -> dict[str, list[int]]:
    """{program: pids of its living processes}; programs without one are left out."""
    pids_of: dict[str, list[int]] = {}
    scripts = {process.script.name: process for process in processes}
    for pid in proc.all_pids():
        arguments = proc.command_line(pid)[: proc.SCRIPT_WITHIN]
        for argument in arguments:
            process = scripts.get(argument.rpartition("/")[2])
            if process is not None and _lives(pid) and proc.runs(pid, process.script):
                pids_of.setdefault(process.program, []).append(pid)
                break
    for process in processes:
        by_file = proc.pid_in(process.pid_file)
        if (
            by_file is not None
            and by_file not in pids_of.get(process.program, [])
            and _lives(by_file)
            and proc.names(by_file, process.files)
        ):
            pids_of.setdefault(process.program, []).append(by_file)
    return pids_of


def find_undescribed_orphans(
    cluster: Cluster, supervised: Collection[int] = ()
) -> dict[int, str]:
    """{pid: program} of servers and Zopes that the description has no more.

    supervised: pids that supervisor knows, which are left out.
    """
    described = {process.program for process in list_processes(cluster)}
    found = {}
    for pid in proc.all_pids():
        for argument in proc.command_line(pid)[: proc.SCRIPT_WITHIN]:
            program = argument.rpartition("/")[2]
            if (
                pid not in supervised
                and program.startswith(("zeo-", "zope-"))
                and not program.endswith("-console")
                and program not in described
                and _lives(pid)
                and proc.runs(pid, cluster.bin_directory / program)
            ):
                found[pid] = program
                break
    return found


def _lives(pid: int) -> bool:
    return proc.is_alive(pid)


def find_running(cluster: Cluster) -> list[str]:
    """Every process that runs, in words for the operator; empty where none does.

    A locked Data.fs, and an address at which somebody answers, count too, even where no
    process of ours is seen: the server may run in a container, under another user, or
    on another machine.
    """
    processes = list_processes(cluster)
    pids_of = find_pids(processes)
    described = [
        _describe(process, pids_of.get(process.program, [])) for process in processes
    ]
    return [
        *(text for text in described if text is not None),
        *(
            f"{program}, which is described no more (pid {pid})"
            for pid, program in find_undescribed_orphans(cluster).items()
        ),
        *_describe_locked_files(cluster, pids_of),
        *_describe_consoles(cluster),
        *(f"supervisord (pid {pid})" for pid in supervisor.pids(cluster)),
    ]


def _describe(process: Process, pids: Sequence[int]) -> str | None:
    if pids:
        return f"{process.label} (pid {', '.join(map(str, pids))})"
    if not accepts(process.address):
        return None
    who = proc.find_listener(process.address) or "an unknown process"
    return f"{process.label} or another at its address {process.address_text} ({who})"


def _describe_locked_files(
    cluster: Cluster, pids_of: dict[str, list[int]]
) -> list[str]:
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


def _describe_consoles(cluster: Cluster) -> list[str]:
    """Consoles of Zopes, and scripts they run: they write as any Zope does."""
    scripts = {
        f"zope-{zope.name}-console": zope.name for zope in cluster.zopes if zope.managed
    }
    consoles = []
    for pid in proc.all_pids():
        arguments = proc.command_line(pid)[: proc.SCRIPT_WITHIN]
        for argument in arguments:
            name = scripts.get(argument.rpartition("/")[2])
            if name is not None and proc.runs(
                pid, cluster.bin_directory / f"zope-{name}-console"
            ):
                consoles.append(f"a console of Zope {name} (pid {pid})")
    return consoles


def refuse_running(cluster: Cluster) -> None:
    """Refuse to go on while a process of the cluster runs.

    Raises: ClusterRunning: where a server, a Zope or the daemon runs.
    """
    if processes := find_running(cluster):
        raise ClusterRunning(f"still running: {', '.join(processes)}")
