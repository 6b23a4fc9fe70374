"""The parts of a cluster that are processes, in the order in which they start."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import UnknownPart
from tidstorage.system.address import Address, address_text

Kind = Literal["zeo", "daemon", "zope"]

#: Each needs the ones before it.
START_ORDER: tuple[Kind, ...] = ("zeo", "daemon", "zope")
#: The daemon has no name in the description.
DAEMON = "tidstorage"


@dataclass(frozen=True, slots=True)
class Part:
    """A ZEO server, the daemon, or a Zope.

    program: what supervisor calls it, and its script below bin/.  files: what
    tells its process from others: script and configurations.  logs: where it
    writes, its own log first.  storages: the ids a ZEO server has to serve.
    """

    kind: Kind
    name: str
    label: str
    program: str
    address: Address
    managed: bool
    pid_file: Path
    script: Path
    files: tuple[Path, ...]
    logs: tuple[Path, ...]
    storages: tuple[str, ...] = ()

    @property
    def address_text(self) -> str:
        """``host:port``, or the path of a unix socket."""
        return address_text(self.address)


def parts_of(cluster: Cluster) -> list[Part]:
    """Every part, in the order of the start."""
    return [*_zeos(cluster), _daemon(cluster), *_zopes(cluster)]


def _zeos(cluster: Cluster) -> list[Part]:
    return [
        _part(
            cluster,
            kind="zeo",
            name=each.name,
            label=f"ZEO server {each.name}",
            program=f"zeo-{each.name}",
            address=each.address,
            managed=each.managed,
            pid_file=each.pid_file,
            configurations=(each.configuration,),
            log=each.log,
            storages=tuple(stored.id for stored in cluster.storages_of(each.name)),
        )
        for each in cluster.zeos
    ]


def _daemon(cluster: Cluster) -> Part:
    daemon = cluster.daemon
    return _part(
        cluster,
        kind="daemon",
        name=DAEMON,
        label="coherency daemon",
        program=DAEMON,
        address=(daemon.host, daemon.port),
        managed=True,
        pid_file=daemon.pid_file,
        configurations=(daemon.configuration,),
        log=daemon.log,
    )


def _zopes(cluster: Cluster) -> list[Part]:
    return [
        _part(
            cluster,
            kind="zope",
            name=each.name,
            label=f"Zope {each.name}",
            program=f"zope-{each.name}",
            address=(each.host, each.port),
            managed=each.managed,
            pid_file=each.pid_file,
            configurations=(each.configuration, each.wsgi_configuration),
            log=each.log,
        )
        for each in cluster.zopes
    ]


def _part(
    cluster: Cluster,
    *,
    kind: Kind,
    name: str,
    label: str,
    program: str,
    address: Address,
    managed: bool,
    pid_file: Path,
    configurations: tuple[Path, ...],
    log: Path,
    storages: tuple[str, ...] = (),
) -> Part:
    script = cluster.bin_directory / program
    output = cluster.log_directory / f"{program}.out"
    return Part(
        kind=kind,
        name=name,
        label=label,
        program=program,
        address=address,
        managed=managed,
        pid_file=pid_file,
        script=script,
        files=(script, *configurations),
        logs=(log, output),
        storages=storages,
    )


def chosen(cluster: Cluster, names: Collection[str] | None) -> list[Part]:
    """The managed parts of these names, in the order of the start; None: all.

    A name is that of the description (``alpha``) or the program's
    (``zeo-alpha``).  UnknownPart where nothing, or nothing of ours, bears it.
    """
    parts = [each for each in parts_of(cluster) if each.managed]
    if names is None:
        return parts
    known = {each.name for each in parts} | {each.program for each in parts}
    if unknown := sorted(set(names) - known):
        raise UnknownPart(
            f"no such part: {', '.join(unknown)}",
            f"There are: {', '.join(each.program for each in parts)}.",
        )
    return [each for each in parts if each.name in names or each.program in names]


def by_kind(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts, those that start together in one list; no list is empty."""
    groups = [[each for each in parts if each.kind == kind] for kind in START_ORDER]
    return [group for group in groups if group]
