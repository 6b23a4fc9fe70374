"""The sets of a backup directory: which there are, and which are whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidstorage import manifest
from tidstorage.backup import layout
from tidstorage.errors import EngineFailed, NoSuchSet, NotCoherent
from tidstorage.manifest import Manifest


@dataclass(frozen=True, slots=True)
class BackupSet:
    """A set and what is wrong with it; ``faults`` is empty where it is whole."""

    manifest: Manifest
    faults: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        return not self.faults


def manifests(directory: Path) -> tuple[list[Manifest], list[NotCoherent]]:
    """All manifests, newest first, and the errors of those that are broken."""
    sound: list[Manifest] = []
    broken: list[NotCoherent] = []
    for path in _manifest_paths(directory):
        try:
            sound.append(manifest.read(path))
        except NotCoherent as error:
            broken.append(error)
    return sound, broken


def _manifest_paths(directory: Path) -> list[Path]:
    """Those there are; EngineFailed or PermissionError where nobody can tell.

    Not by a glob, which finds nothing in a folder that it cannot read.
    """
    folder = layout.sets(directory)
    try:
        paths = [each / manifest.FILE_NAME for each in folder.iterdir()]
    except FileNotFoundError:
        return []
    except PermissionError:
        raise
    except OSError as error:
        raise EngineFailed(
            f"{folder} cannot be read: {error.strerror}",
            "Is the disk with the backups there, and well?",
        ) from error
    return sorted((each for each in paths if each.exists()), reverse=True)


def newest_id(directory: Path) -> str | None:
    """Id of the newest set, be it sound or broken; None without one."""
    paths = _manifest_paths(directory)
    return paths[0].parent.name if paths else None


def every(directory: Path) -> list[BackupSet]:
    """All sets with a sound manifest, newest first.

    Whole means here: every file it names is there and has the right size.
    Digests are compared when a set is restored.
    """
    return [
        BackupSet(each, tuple(faults(directory, each)))
        for each in manifests(directory)[0]
    ]


def faults(directory: Path, which: Manifest) -> Iterator[str]:
    """What is wrong with the files it names: one is missing or has another size."""
    for stored in which.files():
        try:
            size = (directory / stored.path).stat().st_size
        except OSError as error:
            yield f"{stored.path}: {error.strerror}"
            continue
        if size != stored.size:
            yield f"{stored.path}: {size} bytes instead of {stored.size}"


def by_id(directory: Path, set_id: str) -> BackupSet:
    """The set of that id, whole or not; NoSuchSet, or NotCoherent if broken."""
    path = layout.sets(directory) / set_id / manifest.FILE_NAME
    if not path.is_file() or path.parent.parent != layout.sets(directory):
        raise NoSuchSet(f"there is no set {set_id} in {directory}")
    found = manifest.read(path)
    return BackupSet(found, tuple(faults(directory, found)))
