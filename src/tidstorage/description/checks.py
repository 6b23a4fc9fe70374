"""What no single key can tell: duplicates, references, ports, overlaps."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidstorage.description import resolve
from tidstorage.description.mistakes import Mistake, did_you_mean, shown
from tidstorage.description.model import Description

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong in itself, so that nothing else is blamed for it.

    tables: names of tables of which something could not be read.
    servers: names of the [[zeo]] tables among it.
    """

    tables: Collection[str]
    servers: Collection[str]


def check(description: Description, directory: Path, wrong: Wrong) -> Iterator[Mistake]:
    """Every mistake between the tables of a description."""
    yield from _duplicate_names(description)
    yield from _servers(description, wrong)
    yield from _mount_points(description, wrong)
    if "zeo" not in wrong.tables:
        yield from _addresses(description)
    yield from _paths(description, directory)


def _duplicates(named: list[tuple[Place, str]], what: str) -> Iterator[Mistake]:
    first: dict[str, Place] = {}
    for place, name in named:
        if name in first:
            yield Mistake(
                place, f"{what} that nothing else has", shown(name), "it is there twice"
            )
        first.setdefault(name, place)


def _duplicate_names(description: Description) -> Iterator[Mistake]:
    ids: list[tuple[Place, str]] = []
    for index, storage in enumerate(description.storage):
        ids.append((("storage", index, "id"), storage.id))
        ids.extend((("storage", index, "aliases"), each) for each in storage.aliases)
    for index, retired in enumerate(description.retired_storage):
        ids.append((("retired-storage", index, "id"), retired.id))
    yield from _duplicates(ids, "a storage id")
    zeos: list[tuple[Place, str]] = [
        (("zeo", index, "name"), each.name)
        for index, each in enumerate(description.zeo)
    ]
    yield from _duplicates(zeos, "a name of a ZEO server")
    zopes: list[tuple[Place, str]] = []
    for index, _, name, _ in resolve.zope_instances(description):
        # Each Zope has a second script, NAME-console.
        zopes.append((("zope", index, "name"), name))
        zopes.append((("zope", index, "name"), f"{name}-console"))
    yield from _duplicates(zopes, "a name of a Zope")


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
    used = {resolve.server_of(each, description) for each in description.storage}
    for index, zeo in enumerate(description.zeo):
        if zeo.name not in used:
            yield Mistake(
                ("zeo", index, "name"),
                "a server that a [[storage]] names",
                shown(zeo.name),
                "a ZEO server without a storage does not start",
            )


def _mount_points(description: Description, wrong: Wrong) -> Iterator[Mistake]:
    points: list[tuple[Place, str]] = [
        (("storage", index, "mount-point"), resolve.mount_point_of(each))
        for index, each in enumerate(description.storage)
    ]
    yield from _duplicates(points, "a mount point")
    if "storage" not in wrong.tables and all(point != "/" for _, point in points):
        yield Mistake(
            ("storage",),
            'one storage with mount-point = "/" (the root database)',
            "none",
        )


def _addresses(description: Description) -> Iterator[Mistake]:
    addresses: list[tuple[Place, str]] = [
        (("zeo", index, "address"), address)
        for index, (_, address) in enumerate(resolve.zeo_addresses(description))
    ]
    addresses.append((("tidstorage", "address"), description.tidstorage.address))
    for index, _, name, (host, port) in resolve.zope_instances(description):
        place: Place = ("zope", index, "address")
        if port > 65535:
            yield Mistake(
                place, "ports up to 65535 for all of its count", f"{port} for {name}"
            )
        addresses.append((place, f"{host}:{port}"))
    yield from _duplicates(addresses, "an address")


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
    for place, text in written:
        path = Path(text)
        if not path.is_absolute() and ".." in path.parts:
            yield Mistake(
                place,
                "a path below the cluster's folder, or an absolute one",
                shown(text),
            )
    backup = directory / description.backup.directory
    yield from _overlaps(files, folders, (backup_place, backup))


def _overlaps(
    files: list[tuple[Place, Path]],
    blob_folders: list[tuple[Place, Path]],
    backup: tuple[Place, Path],
) -> Iterator[Mistake]:
    """Compared as the file system has them, behind symbolic links too."""
    real_files = [(place, path.resolve()) for place, path in files]
    yield from _duplicates([(place, str(path)) for place, path in real_files], "a file")
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


def _within(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _overlap(place: Place, path: Path, other: str) -> Mistake:
    return Mistake(place, "a place of its own", str(path), f"it overlaps {other}")
