"""The processes that a description asks for, in the order in which they start."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster, Daemon, Zeo, Zope
from tidstorage.errors import UnknownPart
from tidstorage.system.address import Address, address_text

Kind = Literal["zeo", "daemon", "zope"]

#: Each needs the ones before it.
START_ORDER: tuple[Kind, ...] = ("zeo", "daemon", "zope")
#: The daemon has no name in the description.
DAEMON = "tidstorage"


@dataclass(frozen=True, slots=True)
class Process:
    """A ZEO server, the daemon, or a Zope, as it is described; it may not run.

    name: that of the description.  script: its program below bin/.  configurations:
    the files it reads.  logs: the files it writes to, its own log first.  storages:
    the ids that a ZEO server has to serve.
    """

    kind: Kind
    name: str
    address: Address
    managed: bool
    pid_file: Path
    script: Path
    configurations: tuple[Path, ...]
    logs: tuple[Path, ...]
    storages: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        """What supervisor calls it."""
        return self.script.name

    @property
    def label(self) -> str:
        """What people call it."""
        if self.kind == "daemon":
            return "coherency daemon"
        return f"{'ZEO server' if self.kind == 'zeo' else 'Zope'} {self.name}"

    @property
    def files(self) -> tuple[Path, ...]:
        """What tells its process from others, on a command line."""
        return (self.script, *self.configurations)

    @property
    def address_text(self) -> str:
        """``host:port``, or the path of a unix socket."""
        return address_text(self.address)


def list_processes(cluster: Cluster) -> list[Process]:
    """Every process of the description, in the order of the start."""
    return [
        *(_describe_zeo(cluster, zeo) for zeo in cluster.zeos),
        _describe_daemon(cluster, cluster.daemon),
        *(_describe_zope(cluster, zope) for zope in cluster.zopes),
    ]


def _describe_zeo(cluster: Cluster, zeo: Zeo) -> Process:
    program = f"zeo-{zeo.name}"
    return Process(
        "zeo",
        zeo.name,
        zeo.address,
        managed=zeo.managed,
        pid_file=zeo.pid_file,
        script=cluster.bin_directory / program,
        configurations=(zeo.configuration,),
        logs=(zeo.log, _output(cluster, program)),
        storages=tuple(storage.id for storage in cluster.storages_of(zeo.name)),
    )


def _describe_daemon(cluster: Cluster, daemon: Daemon) -> Process:
    return Process(
        "daemon",
        DAEMON,
        (daemon.host, daemon.port),
        managed=True,
        pid_file=daemon.pid_file,
        script=cluster.bin_directory / DAEMON,
        configurations=(daemon.configuration,),
        logs=(daemon.log, _output(cluster, DAEMON)),
    )


def _describe_zope(cluster: Cluster, zope: Zope) -> Process:
    program = f"zope-{zope.name}"
    return Process(
        "zope",
        zope.name,
        (zope.host, zope.port),
        managed=zope.managed,
        pid_file=zope.pid_file,
        script=cluster.bin_directory / program,
        configurations=(zope.configuration, zope.wsgi_configuration),
        logs=(zope.log, _output(cluster, program)),
    )


def _output(cluster: Cluster, program: str) -> Path:
    """Where supervisor keeps what the program prints."""
    return cluster.log_directory / f"{program}.out"


def choose(cluster: Cluster, names: Collection[str] | None) -> list[Process]:
    """The managed processes of these names, in the order of the start; None: all.

    A name is that of the description (``alpha``), or the program's (``zeo-alpha``).

    Raises: UnknownPart: where nothing, or nothing that is managed, has that name.
    """
    managed = [process for process in list_processes(cluster) if process.managed]
    if names is None:
        return managed
    known = {name for process in managed for name in (process.name, process.program)}
    if unknown := sorted(set(names) - known):
        raise UnknownPart(
            f"no such process: {', '.join(unknown)}",
            f"There are: {', '.join(process.program for process in managed)}.",
        )
    return [
        process
        for process in managed
        if process.name in names or process.program in names
    ]


def find_kind(program: str) -> Kind:
    """What a program is, described or not, by the name that supervisor has for it."""
    if program == DAEMON:
        return "daemon"
    # What is unknown may be a client of the servers, as Zopes are.
    return "zeo" if program.startswith("zeo-") else "zope"


def group_by_kind(processes: Sequence[Process]) -> list[list[Process]]:
    """The processes, those that start together in one list; no list is empty."""
    groups = [
        [process for process in processes if process.kind == kind]
        for kind in START_ORDER
    ]
    return [group for group in groups if group]
