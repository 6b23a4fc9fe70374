"""Which sets are whole: every file there, of the right size, and never found bad."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.sets import verdicts
from tidstorage.sets.manifest import Manifest
from tidstorage.sets.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class BackupSet:
    """A set and what is wrong with it; ``faults`` is empty where it is whole.

    verified: what verifications found; None where there was none.
    """

    manifest: Manifest
    faults: tuple[str, ...]
    verified: Verdict | None = None

    @property
    def is_whole(self) -> bool:
        return not self.faults


def judge(
    directory: Path, made: Iterable[Manifest], known: Mapping[str, Verdict]
) -> list[BackupSet]:
    """The sets of these manifests, which are in the directory, with their faults.

    known: {set id: what verifications found} of all sets of the directory.
    """
    bad = verdicts.find_bad_files(known.values())
    sizes = _Sizes(directory)
    return [
        _judge_one(sizes, manifest, known.get(manifest.id), bad) for manifest in made
    ]


class _Sizes:
    """The sizes of files in the directory; each is looked at once for all sets."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, int | str] = {}

    def of(self, path: str) -> int | str:
        """Its size in bytes, or in words why nobody can tell."""
        if path not in self._known:
            try:
                self._known[path] = (self._directory / path).stat().st_size
            except OSError as error:
                self._known[path] = error.strerror or str(error)
        return self._known[path]


def _judge_one(
    sizes: _Sizes, manifest: Manifest, known: Verdict | None, bad: Mapping[str, str]
) -> BackupSet:
    own = {fault.path: fault.what for fault in known.faults} if known else {}
    faults = tuple(_faults(sizes, manifest, {**bad, **own}, own))
    return BackupSet(manifest, faults, known)


def _faults(
    sizes: _Sizes, manifest: Manifest, bad: Mapping[str, str], own: Mapping[str, str]
) -> Iterator[str]:
    """One of its files is missing or has another size, or was found bad.

    bad: {path: what is wrong with it}; own: the same of what it needs besides the
    files that it names, such as blobs.
    """
    files = manifest.files()
    for stored in files:
        size = sizes.of(stored.path)
        if isinstance(size, str):
            yield f"{stored.path}: {size}"
        elif size != stored.size:
            yield f"{stored.path}: {size} bytes instead of {stored.size}"
        elif stored.path in bad:
            yield f"{stored.path}: {bad[stored.path]}"
    named = {stored.path for stored in files}
    yield from (f"{path}: {what}" for path, what in own.items() if path not in named)
