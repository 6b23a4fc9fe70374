"""The sets of a backup directory: which there are, and which are whole."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.errors import EngineFailed, NoSuchSet, NotCoherent
from tidstorage.sets import layout, manifest, verdicts
from tidstorage.sets.manifest import Manifest
from tidstorage.sets.verdicts import Verified


@dataclass(frozen=True, slots=True)
class BackupSet:
    """A set and what is wrong with it; ``faults`` is empty where it is whole.

    verified: what verifications found; None where there was none.
    """

    manifest: Manifest
    faults: tuple[str, ...]
    verified: Verified | None = None

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


def timelines(directory: Path) -> list[int]:
    """Those of the points of all sound sets; none where nobody can look."""
    try:
        return [made.point.timeline for made in manifests(directory)[0]]
    except (EngineFailed, OSError):
        return []


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


def ids(directory: Path) -> list[str]:
    """Ids of all sets, be they sound or broken, newest first."""
    return [each.parent.name for each in _manifest_paths(directory)]


def newest_id(directory: Path) -> str | None:
    """Id of the newest set, be it sound or broken; None without one."""
    return next(iter(ids(directory)), None)


def every(directory: Path) -> list[BackupSet]:
    """All sets with a sound manifest, newest first.

    Whole means here: every file it names is there and has the right size, and no
    verification found anything wrong with it.
    """
    return judged(directory, manifests(directory)[0])


def judged(directory: Path, found: Sequence[Manifest]) -> list[BackupSet]:
    """The same of just these, which are in the directory."""
    known = verdicts.read_all(directory)
    bad = verdicts.bad_files(known.values())
    return [_judged(directory, each, known.get(each.id), bad) for each in found]


def _judged(
    directory: Path, which: Manifest, known: Verified | None, bad: Mapping[str, str]
) -> BackupSet:
    own = {each.path: each.what for each in known.faults} if known else {}
    return BackupSet(
        which, tuple(_faults(directory, which, {**bad, **own}, own)), known
    )


def faults(directory: Path, which: Manifest) -> tuple[str, ...]:
    """What is wrong with a set, as far as anybody knows."""
    return judged(directory, [which])[0].faults


def _faults(
    directory: Path, which: Manifest, bad: Mapping[str, str], own: Mapping[str, str]
) -> Iterator[str]:
    """One of its files is missing or has another size, or was found bad.

    bad: {path: what is wrong with it}; own: the same of what it needs besides the
    files that it names, such as blobs.
    """
    files = which.files()
    for stored in files:
        try:
            size = (directory / stored.path).stat().st_size
        except OSError as error:
            yield f"{stored.path}: {error.strerror}"
            continue
        if size != stored.size:
            yield f"{stored.path}: {size} bytes instead of {stored.size}"
        elif stored.path in bad:
            yield f"{stored.path}: {bad[stored.path]}"
    named = {each.path for each in files}
    yield from (f"{path}: {what}" for path, what in own.items() if path not in named)


def by_id(directory: Path, set_id: str) -> BackupSet:
    """The set of that id, whole or not; NoSuchSet, or NotCoherent if broken."""
    path = layout.sets(directory) / set_id / manifest.FILE_NAME
    if not path.is_file() or path.parent.parent != layout.sets(directory):
        raise NoSuchSet(f"there is no set {set_id} in {directory}")
    return judged(directory, [manifest.read(path)])[0]
