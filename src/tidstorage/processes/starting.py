"""Starts ZEO servers, then the daemon, then Zopes, each when those before answer."""

import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import NotReady, PortInUse
from tidstorage.processes import logs, supervisor
from tidstorage.processes.process import (
    Process,
    choose,
    find_kind,
    group_by_kind,
    list_processes,
)
from tidstorage.processes.readiness import not_ready
from tidstorage.processes.running import find_pids, find_undescribed_orphans
from tidstorage.processes.stopping import Tell, stop_processes
from tidstorage.processes.supervisor import Program, Supervisor
from tidstorage.system import proc

#: A server that has to rebuild the index of a large file reads all of it first.
START_SECONDS = 120.0
_POLL_SECONDS = 0.1
_MOST_QUESTIONS = 16
#: What supervisor does not start again by itself.
_GIVEN_UP = {"FATAL", "STOPPED"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a start has to do.

    begin: processes that do not run.  restart: those that run with a configuration
    that has changed, and Zopes whose server has to end.  keep: those that run as
    described.  remove: programs that are not in the description any more.  orphans:
    {pid: program} of processes of ours that supervisor does not know.
    forget, learn: programs that supervisor has to forget, and to know, for the first
    time or again.
    """

    begin: tuple[Process, ...]
    restart: tuple[Process, ...]
    keep: tuple[Process, ...]
    remove: tuple[str, ...]
    orphans: dict[int, str]
    forget: tuple[str, ...]
    learn: tuple[str, ...]

    @property
    def is_idle(self) -> bool:
        """Whether everything runs as it should, as far as supervisor knows."""
        return not (self.begin or self.restart or self.remove or self.orphans)


def make_plan(cluster: Cluster, names: Collection[str] | None) -> Plan:
    """What a start would do now; nothing is changed.

    Raises: PortInUse: where an address that will be needed is somebody else's.
    """
    processes = choose(cluster, names)
    supervised = supervisor.running(cluster)
    programs: dict[str, Program] = {}
    added: list[str] = []
    changed: list[str] = []
    removed: list[str] = []
    if supervised is not None:
        added, changed, removed = supervised.read_again()
        programs = supervised.programs()
    up = {name for name, program in programs.items() if program.is_up}
    begin = tuple(process for process in processes if process.program not in up)
    remove = tuple(removed) if names is None else ()
    orphans = _find_orphans(processes, supervised, programs)
    if names is None:
        orphans |= find_undescribed_orphans(
            cluster, {program.pid for program in programs.values()}
        )
    ending = {*remove, *orphans.values(), *(up & set(changed))}
    restart = tuple(
        process
        for process in processes
        if process.program in up
        and (process.program in changed or _loses_its_server(process, ending))
    )
    # What is up but was not named stays as it is, changed or not.
    forget = tuple(
        program for program in changed if program not in up or _has(restart, program)
    )
    plan = Plan(
        begin=begin,
        restart=restart,
        keep=tuple(
            process
            for process in processes
            if process not in begin and process not in restart
        ),
        remove=remove,
        orphans=orphans,
        forget=forget,
        learn=(*added, *forget),
    )
    _refuse_foreign_ports(cluster, plan)
    return plan


def _loses_its_server(process: Process, ending: Collection[str]) -> bool:
    """Whether it is a Zope, and a server ends under it.

    What it commits just then would be finished on some servers and not on others.
    """
    return process.kind == "zope" and any(
        find_kind(program) == "zeo" for program in ending
    )


def _has(processes: Sequence[Process], program: str) -> bool:
    return any(process.program == program for process in processes)


def _find_orphans(
    processes: Sequence[Process],
    supervised: Supervisor | None,
    before: dict[str, Program],
) -> dict[int, str]:
    pids_of = find_pids(processes)
    # Asked once more: what supervisor started by itself since, after a kill, was
    # seen above, is no orphan, and must not be ended.
    after = {} if supervised is None else supervised.programs()
    known = {program.pid for program in (*before.values(), *after.values())}
    return {
        pid: process.program
        for process in processes
        for pid in pids_of.get(process.program, [])
        if pid not in known
    }


def _refuse_foreign_ports(cluster: Cluster, plan: Plan) -> None:
    occupied = {
        process: who
        for process in (*plan.begin, *plan.restart)
        if (who := proc.find_listener(process.address)) is not None
    }
    if not occupied:
        return
    # One of ours may sit on the address that another is to have: what changed
    # is stopped before anything starts.
    ours = {pid for pids in find_pids(list_processes(cluster)).values() for pid in pids}
    taken = [
        f"{process.address_text} for {process.label}: {who}"
        for process, who in occupied.items()
        if who.pid not in ours
    ]
    if taken:
        raise PortInUse("taken: " + "; ".join(taken))


def start_processes(
    cluster: Cluster, plan: Plan, tell: Tell, seconds: float
) -> list[str]:
    """Do what the plan says; the labels of what was started."""
    supervised = supervisor.running(cluster)
    is_new = supervised is None
    if supervised is None:
        supervised = supervisor.begin(cluster)
        tell("supervisord is started")
    # All in one go, so that no server ends before each Zope that has to is gone.
    stop_processes(
        cluster, plan.restart, tell, undescribed=plan.remove, orphans=plan.orphans
    )
    if not is_new:
        _apply_changes(supervised, plan, tell)
    begin = (*plan.begin, *plan.restart)
    for group in group_by_kind([*begin, *plan.keep]):
        marks = {process.program: logs.sizes(process.logs) for process in group}
        new = [process for process in group if process in begin]
        for process in new:
            supervised.start(process.program)
        _wait_until_ready(supervised, group, new, marks, tell, seconds)
    return [process.label for process in list_processes(cluster) if process in begin]


def _apply_changes(supervised: Supervisor, plan: Plan, tell: Tell) -> None:
    for name in plan.remove:
        supervised.remove(name)
        tell(f"{name} is no longer described: forgotten")
    for name in plan.forget:
        supervised.remove(name)
    for name in plan.learn:
        supervised.add(name)


def _wait_until_ready(
    supervised: Supervisor,
    group: Sequence[Process],
    new: Sequence[Process],
    marks: dict[str, dict[Path, int]],
    tell: Tell,
    seconds: float,
) -> None:
    """Wait until all of the group answer.

    Raises: NotReady: where one ends, or takes too long.
    """
    begun = time.monotonic()
    waiting = list(group)
    pids = {name: program.pid for name, program in supervised.programs().items()}
    with ThreadPoolExecutor(min(len(group), _MOST_QUESTIONS)) as pool:
        while True:
            reasons = dict(zip(waiting, pool.map(not_ready, waiting), strict=True))
            programs = supervised.programs()
            ended = []
            for process in waiting:
                program = programs[process.program]
                pids[process.program] = pids[process.program] or program.pid
                if process not in new:
                    # It ran before: should it end just now, as after a kill,
                    # supervisor starts it again by itself.
                    if program.state in _GIVEN_UP:
                        ended.append(process)
                elif _has_ended(program, pids[process.program]):
                    ended.append(process)
                elif reasons[process] is None:
                    tell(f"{process.label} answers ({time.monotonic() - begun:.1f} s)")
            if ended:
                _give_up(supervised, ended, marks)
            waiting = [process for process in waiting if reasons[process] is not None]
            if not waiting:
                return
            if time.monotonic() - begun > seconds:
                raise _too_late(
                    {process: reasons[process] for process in waiting}, marks, seconds
                )
            time.sleep(_POLL_SECONDS)


def _has_ended(program: Program, pid: int) -> bool:
    """Whether the process that was started is gone: supervisor starts another."""
    return program.state not in {"STARTING", "RUNNING"} or program.pid != pid


def _give_up(
    supervised: Supervisor, ended: Sequence[Process], marks: dict[str, dict[Path, int]]
) -> None:
    for process in ended:
        supervised.stop(process.program)
    names = " and ".join(
        f"{process.label} (log: {process.logs[0]})" for process in ended
    )
    raise NotReady(f"ended while it started: {names}", _last_words(ended, marks))


def _too_late(
    reasons: dict[Process, str | None],
    marks: dict[str, dict[Path, int]],
    seconds: float,
) -> NotReady:
    names = "; ".join(
        f"{process.label}: {reason} (log: {process.logs[0]})"
        for process, reason in reasons.items()
    )
    return NotReady(
        f"not ready within {seconds:g} s: {names}",
        "It was left running; the same command goes on waiting.\n"
        + _last_words(list(reasons), marks),
    )


def _last_words(processes: Sequence[Process], marks: dict[str, dict[Path, int]]) -> str:
    said = []
    for process in processes:
        lines = logs.last_lines(process.logs, marks[process.program])
        said.append(
            f"{process.label} last said:\n{lines}"
            if lines
            else f"{process.label} said nothing."
        )
    return "\n".join(said)
