"""Paths of a description that overlap: files, blobs, backups, scratch and tools."""

from collections.abc import Iterator
from pathlib import Path

from tidstorage.cluster import resolve
from tidstorage.cluster.mistakes import Mistake, Place, find_duplicates, shown
from tidstorage.cluster.model import Description

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


def check_paths(description: Description, directory: Path) -> Iterator[Mistake]:
    """Paths that leave the cluster's folder, or overlap others.

    directory: the cluster's folder.
    """
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
    yield from find_duplicates(
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
        place, "a path that overlaps no other", str(path), f"it overlaps {other}"
    )
