"""Which sets are whole: every file there, of the right size, and never found bad."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.sets import verdicts
from tidstorage.sets.manifest import Manifest
from tidstorage.sets.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class BackupSet:
    """A set and what is wrong with it.

    faults: in words; none where the set is whole.  verified: what verifications
    found; None where there was none.
    """

    manifest: Manifest
    faults: tuple[str, ...]
    verified: Verdict | None = None

    @property
    def is_whole(self) -> bool:
        return not self.faults


def judge_sets(
    directory: Path, manifests: Iterable[Manifest], verdict_of: Mapping[str, Verdict]
) -> list[BackupSet]:
    """The sets of these manifests, each with what is wrong with it.

    directory: the backup directory.  verdict_of: {set id: what verifications found},
    of all its sets: they share files, so that what is bad for one is bad for another.
    """
    bad = verdicts.find_bad_files(verdict_of.values())
    sizes = _Sizes(directory)
    return [
        _judge_set(sizes, manifest, verdict_of.get(manifest.id), bad)
        for manifest in manifests
    ]


class _Sizes:
    """The sizes of files in the directory; each is looked at once for all sets."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sizes: dict[str, int | str] = {}

    def of(self, path: str) -> int | str:
        """Its size in bytes, or in words why nobody can tell."""
        if path not in self._sizes:
            try:
                self._sizes[path] = (self._directory / path).stat().st_size
            except OSError as error:
                self._sizes[path] = error.strerror or str(error)
        return self._sizes[path]


def _judge_set(
    sizes: _Sizes, manifest: Manifest, verdict: Verdict | None, bad: Mapping[str, str]
) -> BackupSet:
    own = verdicts.find_bad_files([verdict] if verdict else [])
    faults = tuple(_find_faults(sizes, manifest, {**bad, **own}, own))
    return BackupSet(manifest, faults, verdict)


def _find_faults(
    sizes: _Sizes, manifest: Manifest, bad: Mapping[str, str], own: Mapping[str, str]
) -> Iterator[str]:
    """What is wrong with the files of a set, in words.

    bad: {path: what is wrong with it}, of all files that were found bad.  own: those
    of them that were found in this set; they count even where the manifest does not
    name them, as blobs.
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
