"""The sets of a backup directory: which there are, and which are whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidstorage import manifest
from tidstorage.backup import layout
from tidstorage.errors import NoSuchSet, NotCoherent
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
    return sorted(layout.sets(directory).glob(f"*/{manifest.FILE_NAME}"), reverse=True)


def every(directory: Path) -> list[BackupSet]:
    """All sets with a sound manifest, newest first.

    Whole means here: every file it names is there and has the right size.
    Digests are compared when a set is restored.
    """
    return [
        BackupSet(each, tuple(_faults(directory, each)))
        for each in manifests(directory)[0]
    ]


def _faults(directory: Path, which: Manifest) -> Iterator[str]:
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
    return BackupSet(found, tuple(_faults(directory, found)))
