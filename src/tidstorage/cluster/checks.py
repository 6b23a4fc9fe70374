"""Mistakes between the tables of a description: duplicates, references, addresses."""

import zoneinfo
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster import resolve, schedule
from tidstorage.cluster.cluster import ROOT_DATABASE
from tidstorage.cluster.mistakes import (
    Mistake,
    Place,
    did_you_mean,
    find_duplicates,
    shown,
)
from tidstorage.cluster.model import Description
from tidstorage.cluster.path_checks import check_paths
from tidstorage.cluster.values import NEVER
from tidstorage.system.address import split_address

_ALL_HOSTS = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What could not be read, so that nothing else is blamed for it.

    tables: names of the tables in which something could not be read.
    servers: names of the [[zeo]] tables among them.
    root: whether the storage of the root may be among them.
    """

    tables: Collection[str]
    servers: Collection[str]
    root: bool


def check(
    description: Description, directory: Path, unreadable: Unreadable
) -> Iterator[Mistake]:
    """Every mistake between the tables of a description."""
    yield from _time_zone(description)
    yield from _duplicate_names(description)
    yield from _database_names(description)
    yield from _servers(description, unreadable)
    yield from _mount_points(description, unreadable)
    yield from _addresses(description, unreadable)
    yield from check_paths(description, directory)
    yield from _ping(description)
    yield from _schedules(description)


def _time_zone(description: Description) -> Iterator[Mistake]:
    name = description.cluster.time_zone
    try:
        if name is not None:
            zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        place: Place = ("cluster", "time-zone")
        known = zoneinfo.available_timezones()
        expected = "a time zone that this machine knows"
        yield Mistake(place, expected, shown(name), did_you_mean(str(name), known))


def _duplicate_names(description: Description) -> Iterator[Mistake]:
    ids: list[tuple[Place, str]] = []
    for index, storage in enumerate(description.storage):
        ids.append((("storage", index, "id"), storage.id))
        ids.extend((("storage", index, "aliases"), old) for old in storage.aliases)
    for index, retired in enumerate(description.retired_storage):
        ids.append((("retired-storage", index, "id"), retired.id))
    yield from find_duplicates(ids, "a storage id")
    zeos: list[tuple[Place, str]] = [
        (("zeo", index, "name"), zeo.name) for index, zeo in enumerate(description.zeo)
    ]
    yield from find_duplicates(zeos, "a name of a ZEO server")
    zopes: list[tuple[Place, str]] = []
    for index, _, name, _ in resolve.zope_instances(description):
        # Each Zope has a second script, whose name ends with -console.
        zopes.append((("zope", index, "name"), name))
        zopes.append((("zope", index, "name"), f"{name}-console"))
    yield from find_duplicates(zopes, "a name of a Zope")


def _database_names(description: Description) -> Iterator[Mistake]:
    for index, storage in enumerate(description.storage):
        if storage.id == ROOT_DATABASE and resolve.mount_point_of(storage) != "/":
            yield Mistake(
                ("storage", index, "id"),
                f'another id: "{ROOT_DATABASE}" is what Zope calls the root database',
                shown(storage.id),
            )


def _servers(description: Description, unreadable: Unreadable) -> Iterator[Mistake]:
    names = [name for name, _ in resolve.zeo_addresses(description)]
    for index, storage in enumerate(description.storage):
        server = resolve.server_of(storage, description)
        place: Place = ("storage", index, "zeo")
        expected = f"the name of a [[zeo]] server ({', '.join(names)})"
        if server is None:
            yield Mistake(place, expected, "nothing")
        elif server not in names and server not in unreadable.servers:
            yield Mistake(place, expected, shown(server), did_you_mean(server, names))
    if "storage" in unreadable.tables:
        return
    used = {resolve.server_of(storage, description) for storage in description.storage}
    for index, zeo in enumerate(description.zeo):
        if zeo.name not in used:
            yield Mistake(
                ("zeo", index, "name"),
                "a server that some [[storage]] names in its key zeo",
                shown(zeo.name),
                "a ZEO server that serves no storage does not start",
            )


def _mount_points(
    description: Description, unreadable: Unreadable
) -> Iterator[Mistake]:
    points: list[tuple[Place, str]] = [
        (("storage", index, "mount-point"), resolve.mount_point_of(storage))
        for index, storage in enumerate(description.storage)
    ]
    yield from find_duplicates(points, "a mount point")
    if not unreadable.root and all(point != "/" for _, point in points):
        yield Mistake(
            ("storage",),
            'one storage with mount-point = "/" (the root database)',
            "none",
        )


def _addresses(description: Description, unreadable: Unreadable) -> Iterator[Mistake]:
    taken: list[tuple[Place, tuple[str, int] | str]] = []
    for place, text in _addresses_of(description, unreadable):
        address = split_address(text)
        if isinstance(address, tuple) and address[1] > 65535:
            yield Mistake(
                place, "ports up to 65535 for as many Zopes as count says", text
            )
        if any(_meet(address, other) for _, other in taken):
            yield Mistake(
                place,
                "an address that nothing else has",
                shown(text),
                "it is there twice",
            )
        taken.append((place, address))


def _addresses_of(
    description: Description, unreadable: Unreadable
) -> Iterator[tuple[Place, str]]:
    """The addresses that are said, and the defaults of tables that could be read."""
    for index, (_, address) in enumerate(resolve.zeo_addresses(description)):
        is_said = bool(description.zeo) and description.zeo[index].address is not None
        if is_said or "zeo" not in unreadable.tables:
            yield ("zeo", index, "address"), address
    if "tidstorage" not in unreadable.tables:
        yield ("tidstorage", "address"), description.tidstorage.address
    for index, section, _, (host, port) in resolve.zope_instances(description):
        if section.address is not None or "zope" not in unreadable.tables:
            host = f"[{host}]" if ":" in host else host
            yield ("zope", index, "address"), f"{host}:{port}"


def _meet(one: tuple[str, int] | str, other: tuple[str, int] | str) -> bool:
    """Whether two servers cannot listen on both."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    hosts = {
        "127.0.0.1" if host == "localhost" else host for host in (one[0], other[0])
    }
    return one[1] == other[1] and (len(hosts) == 1 or bool(hosts & _ALL_HOSTS))


def _schedules(description: Description) -> Iterator[Mistake]:
    """Schedules of the right form that cron does not take, as day 31 of February."""
    for name in ("backup", "retention", "verify", "pack"):
        text: str = getattr(description, name).schedule
        if text != NEVER and (wrong := schedule.mistake(text)) is not None:
            yield Mistake(
                (name, "schedule"), "a schedule that cron takes", shown(text), wrong
            )


def _ping(description: Description) -> Iterator[Mistake]:
    backup = description.backup
    if backup.ping_url is not None and backup.ping_url_file is not None:
        yield Mistake(("backup", "ping-url-file"), "ping-url or ping-url-file", "both")
