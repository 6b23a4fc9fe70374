"""Starts, stops and restarts the processes of a cluster.

They are children of a supervisord of the cluster, which ends with the whole cluster.
"""

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterator

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import DescriptionError, Locked, NotReady, TidstorageError
from tidstorage.operation.unfinished import refuse_unfinished
from tidstorage.points import known_files
from tidstorage.points.beside import point_path
from tidstorage.processes import starting, stopping, supervisor
from tidstorage.processes.process import choose
from tidstorage.processes.running import find_pids
from tidstorage.processes.starting import START_SECONDS, Plan
from tidstorage.processes.stopping import STOP_SECONDS, Tell
from tidstorage.sets import history

__all__ = ["list_running", "make_plan", "restart", "start", "stop"]

_LOCK = "processes.lock"


def _say_nothing(_text: str) -> None:
    pass


def start(
    cluster: Cluster,
    names: Collection[str] | None = None,
    *,
    tell: Tell = _say_nothing,
    seconds: float = START_SECONDS,
) -> list[str]:
    """Start what does not run, restart what changed, stop what is described no more.

    names: of processes, as in the description; None: all.  tell: called with a line
    for each step.  seconds: for the processes of one kind to become ready.
    Returns the labels of what was started; empty where there was nothing to do.

    Raises:
      InterruptedRestore, DescriptionError, PortInUse, UnknownPart, DataFileLost,
        OtherHistory, NotDecided: before anything is done.
      NotReady: where a process ends or does not answer; what runs stays running.
    """
    with _alone(cluster):
        plan = make_plan(cluster, names)
        started = starting.start_processes(cluster, plan, tell, seconds)
        _note_files(cluster, tell)
        return started


def make_plan(cluster: Cluster, names: Collection[str] | None = None) -> Plan:
    """What `start` would do; nothing is done.

    Raises: what `start` raises before anything is done.
    """
    refuse_unfinished(cluster)
    _refuse_left_behind(cluster)
    _refuse_undecided(cluster)
    _refuse_changed_files(cluster)
    plan = starting.make_plan(cluster, names)
    if any(process.kind == "zope" for process in plan.begin):
        _refuse_uninitialised(cluster)
    return plan


def _note_files(cluster: Cluster, tell: Tell) -> None:
    """Note what the servers serve now; that this fails is no failure of the start."""
    try:
        history.establish(cluster)
        known_files.note(cluster)
    except (TidstorageError, OSError) as error:
        tell(f"what the data files are now could not be noted: {error}")


def _refuse_undecided(cluster: Cluster) -> None:
    """Refuse to begin anew beside backups of a former site, unless somebody said so.

    Raises: NotDecided: there are such backups, and no data.
    """
    if history.read(cluster) is None and cluster.backup.directory.is_dir():
        # Imported late: nearly no start has any use for what knows of sets.
        from tidstorage.processes.undecided import refuse_undecided

        refuse_undecided(cluster)


def _refuse_changed_files(cluster: Cluster) -> None:
    """Refuse data files that are not what was there before: servers would serve them.

    Raises: DataFileLost, OtherHistory: there are such files.
    """
    history.refuse_others_files(cluster)
    findings = known_files.examine(known_files.record_path(cluster), cluster.storages)
    known_files.refuse_changed(findings)
    known_files.refuse_blobs_without_data(cluster.storages)


def _refuse_left_behind(cluster: Cluster) -> None:
    """Refuse a storage whose data are still at the default path of its former id."""
    for storage in cluster.storages:
        for alias in storage.aliases:
            former = cluster.directory / "var/storage" / alias / "Data.fs"
            if former.exists() and not storage.data_file.exists():
                raise DescriptionError(
                    f"storage {storage.id}, formerly {alias}, would begin empty:"
                    f" {former} is there, and {storage.data_file} is not",
                    f'Give it path = "{former.relative_to(cluster.directory)}" (and its'
                    " blob-dir) in cluster.toml, or move the files. Nothing has been"
                    " started.",
                )


def _refuse_uninitialised(cluster: Cluster) -> None:
    """Refuse Zopes in a new cluster: several would each create the root object."""
    if not any(point_path(storage.data_file).exists() for storage in cluster.storages):
        raise NotReady(
            "the cluster was never initialised", "Run bin/cluster init first."
        )


def stop(
    cluster: Cluster,
    names: Collection[str] | None = None,
    *,
    tell: Tell = _say_nothing,
    seconds: float = STOP_SECONDS,
) -> list[str]:
    """Stop Zopes, then the daemon, then ZEO servers, and wait until they are gone.

    names: as for `start`; with None supervisord ends too, and no process is left, also
    none that somebody started by hand.  seconds: after which those of one kind that are
    left are killed, and named.  Returns the labels of what was up.
    """
    with _alone(cluster):
        processes = choose(cluster, names)
        if names is None:
            return stopping.stop_all(cluster, processes, tell, seconds)
        return stopping.stop_processes(cluster, processes, tell, seconds)


def list_running(cluster: Cluster, names: Collection[str] | None = None) -> list[str]:
    """What `stop` would stop; nothing is changed."""
    processes = choose(cluster, names)
    pids_of = find_pids(processes)
    labels = [process.label for process in processes if process.program in pids_of]
    if names is None and supervisor.pids(cluster):
        labels.append("supervisord")
    return labels


def restart(
    cluster: Cluster,
    names: Collection[str] | None = None,
    *,
    tell: Tell = _say_nothing,
    seconds: float = START_SECONDS,
) -> list[str]:
    """Stop and start; nothing is stopped where the start would be refused."""
    make_plan(cluster, names)
    stop(cluster, names, tell=tell)
    return start(cluster, names, tell=tell, seconds=seconds)


@contextlib.contextmanager
def _alone(cluster: Cluster) -> Iterator[None]:
    """Let only one start or stop run at a time.

    Raises: Locked: where another one runs.
    """
    cluster.run_directory.mkdir(parents=True, exist_ok=True)
    path = cluster.run_directory / _LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(
                "another start or stop of this cluster is under way",
                "Wait for its end, then try again.",
            ) from None
        yield
    finally:
        os.close(descriptor)
