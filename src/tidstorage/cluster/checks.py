"""Mistakes between the tables of a description: duplicates, references, overlaps."""

import zoneinfo
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster import resolve, schedule
from tidstorage.cluster.cluster import ROOT_DATABASE
from tidstorage.cluster.mistakes import Mistake, did_you_mean, shown
from tidstorage.cluster.model import Description
from tidstorage.cluster.values import NEVER
from tidstorage.system.address import split_address

Place = tuple[str | int, ...]
#: The tools write to these folders, and empty some: they are no place for data.
TOOL_FOLDERS = (
    "bin",
    "etc",
    "parts",
    "var/browse",
    "var/cache",
    "var/log",
    "var/run",
    "var/tidstorage",
)
_ALL_HOSTS = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class Wrong:
    """What could not be read, so that nothing else is blamed for it.

    tables: names of the tables in which something could not be read.
    servers: names of the [[zeo]] tables among them.
    root: whether the storage of the root may be among them.
    """

    tables: Collection[str]
    servers: Collection[str]
    root: bool


def check(description: Description, directory: Path, wrong: Wrong) -> Iterator[Mistake]:
    """Every mistake between the tables of a description."""
    yield from _time_zone(description)
    yield from _duplicate_names(description)
    yield from _database_names(description)
    yield from _servers(description, wrong)
    yield from _mount_points(description, wrong)
    yield from _addresses(description, wrong)
    yield from _paths(description, directory)
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


def _duplicates(named: list[tuple[Place, str]], what: str) -> Iterator[Mistake]:
    first: dict[str, Place] = {}
    for place, name in named:
        if name in first:
            yield Mistake(
                place,
                f"{what} that nothing else has",
                shown(name),
                "something else has it too",
            )
        first.setdefault(name, place)


def _duplicate_names(description: Description) -> Iterator[Mistake]:
    ids: list[tuple[Place, str]] = []
    for index, storage in enumerate(description.storage):
        ids.append((("storage", index, "id"), storage.id))
        ids.extend((("storage", index, "aliases"), old) for old in storage.aliases)
    for index, retired in enumerate(description.retired_storage):
        ids.append((("retired-storage", index, "id"), retired.id))
    yield from _duplicates(ids, "a storage id")
    zeos: list[tuple[Place, str]] = [
        (("zeo", index, "name"), zeo.name) for index, zeo in enumerate(description.zeo)
    ]
    yield from _duplicates(zeos, "a name of a ZEO server")
    zopes: list[tuple[Place, str]] = []
    for index, _, name, _ in resolve.zope_instances(description):
        # Each Zope has a second script, whose name ends with -console.
        zopes.append((("zope", index, "name"), name))
        zopes.append((("zope", index, "name"), f"{name}-console"))
    yield from _duplicates(zopes, "a name of a Zope")


def _database_names(description: Description) -> Iterator[Mistake]:
    for index, storage in enumerate(description.storage):
        if storage.id == ROOT_DATABASE and resolve.mount_point_of(storage) != "/":
            yield Mistake(
                ("storage", index, "id"),
                f'another id: "{ROOT_DATABASE}" is what Zope calls the root database',
                shown(storage.id),
            )


def _servers(description: Description, wrong: Wrong) -> Iterator[Mistake]:
    names = [name for name, _ in resolve.zeo_addresses(description)]
    for index, storage in enumerate(description.storage):
        server = resolve.server_of(storage, description)
        place: Place = ("storage", index, "zeo")
        expected = f"the name of a [[zeo]] server ({', '.join(names)})"
        if server is None:
            yield Mistake(place, expected, "nothing")
        elif server not in names and server not in wrong.servers:
            yield Mistake(place, expected, shown(server), did_you_mean(server, names))
    if "storage" in wrong.tables:
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


def _mount_points(description: Description, wrong: Wrong) -> Iterator[Mistake]:
    points: list[tuple[Place, str]] = [
        (("storage", index, "mount-point"), resolve.mount_point_of(storage))
        for index, storage in enumerate(description.storage)
    ]
    yield from _duplicates(points, "a mount point")
    if not wrong.root and all(point != "/" for _, point in points):
        yield Mistake(
            ("storage",),
            'one storage with mount-point = "/" (the root database)',
            "none",
        )


def _addresses(description: Description, wrong: Wrong) -> Iterator[Mistake]:
    taken: list[tuple[Place, tuple[str, int] | str]] = []
    for place, text in _addresses_of(description, wrong):
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
                "something else has it too",
            )
        taken.append((place, address))


def _addresses_of(
    description: Description, wrong: Wrong
) -> Iterator[tuple[Place, str]]:
    """The addresses that are said, and the defaults of tables that could be read."""
    for index, (_, address) in enumerate(resolve.zeo_addresses(description)):
        is_said = bool(description.zeo) and description.zeo[index].address is not None
        if is_said or "zeo" not in wrong.tables:
            yield ("zeo", index, "address"), address
    if "tidstorage" not in wrong.tables:
        yield ("tidstorage", "address"), description.tidstorage.address
    for index, section, _, (host, port) in resolve.zope_instances(description):
        if section.address is not None or "zope" not in wrong.tables:
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


def _paths(description: Description, directory: Path) -> Iterator[Mistake]:
    files: list[tuple[Place, Path]] = []
    folders: list[tuple[Place, Path]] = []
    written: list[tuple[Place, str]] = []
    for index, storage in enumerate(description.storage):
        place: Place = ("storage", index, "path")
        files.append((place, resolve.data_file_of(storage, directory)))
        blobs = resolve.blob_directory_of(storage, directory)
        if blobs is not None:
            folders.append((("storage", index, "blob-dir"), blobs))
        if storage.path is not None:
            written.append((place, storage.path))
        if storage.blob_dir is not None:
            written.append((("storage", index, "blob-dir"), storage.blob_dir))
    backup_place: Place = ("backup", "directory")
    written.append((backup_place, description.backup.directory))
    scratch_place: Place = ("verify", "scratch")
    written.append((scratch_place, description.verify.scratch))
    for place, text in written:
        path = Path(text)
        if not path.is_absolute() and ".." in path.parts:
            yield Mistake(
                place,
                "a path below the cluster's folder, or an absolute one",
                shown(text),
            )
    backup = (backup_place, directory / description.backup.directory)
    scratch = (scratch_place, directory / description.verify.scratch)
    yield from _overlaps(files, folders, backup)
    yield from _scratch_overlaps([*files, *folders, backup], scratch)
    yield from _among_tools([*files, *folders, backup, scratch], directory)


def _overlaps(
    files: list[tuple[Place, Path]],
    blob_folders: list[tuple[Place, Path]],
    backup: tuple[Place, Path],
) -> Iterator[Mistake]:
    """Paths are compared as the file system has them, with symbolic links followed."""
    real_files = [(place, path.resolve()) for place, path in files]
    yield from _duplicates(
        [(place, _file(path)) for place, path in real_files], "a file"
    )
    real_folders = [(place, path.resolve()) for place, path in blob_folders]
    for number, (place, folder) in enumerate(real_folders):
        for _, other in real_folders[:number]:
            if _within(folder, other) or _within(other, folder):
                yield _overlap(place, folder, f"the blobs in {other}")
        for _, file in real_files:
            if _within(file, folder):
                yield _overlap(place, folder, f"the file {file}")
    place, sets = backup[0], backup[1].resolve()
    for _, file in real_files:
        if _within(sets, file.parent) or _within(file, sets):
            yield _overlap(place, sets, f"the data in {file.parent}")
    for _, folder in real_folders:
        if _within(sets, folder) or _within(folder, sets):
            yield _overlap(place, sets, f"the blobs in {folder}")


def _scratch_overlaps(
    claimed: list[tuple[Place, Path]], scratch: tuple[Place, Path]
) -> Iterator[Mistake]:
    """What is restored for a verification is removed again, with its folder."""
    place, folder = scratch[0], scratch[1].resolve()
    for _, path in claimed:
        real = path.resolve()
        if _within(real, folder) or _within(folder, real):
            yield _overlap(place, folder, str(real))


def _file(path: Path) -> str:
    """The same text for two names of one file, hard links too."""
    try:
        status = path.stat()
    except OSError:
        return str(path)
    return f"{status.st_dev}:{status.st_ino}"


def _among_tools(
    claimed: list[tuple[Place, Path]], directory: Path
) -> Iterator[Mistake]:
    for name in TOOL_FOLDERS:
        folder = (directory / name).resolve()
        for place, path in claimed:
            real = path.resolve()
            if _within(real, folder) or _within(folder, real):
                yield _overlap(place, real, f"{folder}, a folder of the tools")


def _within(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _overlap(place: Place, path: Path, other: str) -> Mistake:
    return Mistake(
        place, "a folder that overlaps no other", str(path), f"it overlaps {other}"
    )
