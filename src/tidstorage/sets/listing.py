"""Which sets are whole: every file there, of the right size, and never found bad.

Of a set whose files could not be looked at nobody knows; it is neither whole nor
broken.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidstorage.sets import verdicts
from tidstorage.sets.manifest import Manifest
from tidstorage.sets.verdicts import Verdict
from tidstorage.system import presence


@dataclass(frozen=True, slots=True)
class BackupSet:
    """A set, what is wrong with it, and what nobody could look at; all in words.

    faults: what is wrong for certain.  verified: what verifications found; None where
    there was none.  unread: what could not be looked at just now.  doubts: what the
    last verification could not read.
    """

    manifest: Manifest
    faults: tuple[str, ...]
    verified: Verdict | None = None
    unread: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether all that could be found wrong was looked for, and is not."""
        return not (self.faults or self.unread or self.doubts)

    @property
    def is_unknown(self) -> bool:
        """Whether nobody can tell if the set is whole."""
        return not self.faults and not self.is_whole

    @property
    def reason(self) -> str:
        """The first reason why it is not whole, or not known to be; empty if it is."""
        return next(iter((*self.faults, *self.unread, *self.doubts)), "")


def judge_sets(
    directory: Path,
    manifests: Iterable[Manifest],
    verdict_of: Mapping[str, Verdict],
    unread_verdicts: Mapping[str, str],
) -> list[BackupSet]:
    """The sets of these manifests, each with what is wrong with it.

    directory: the backup directory.  verdict_of: {set id: what verifications found},
    of all its sets: they share files, so that what is bad for one is bad for another.
    unread_verdicts: {set id: why what was found of that set could not be read}.
    """
    bad = verdicts.find_bad_files(verdict_of.values())
    doubtful = verdicts.find_unread_files(verdict_of.values())
    sizes = _Sizes(directory)
    sets = []
    for manifest in manifests:
        judgement = _Judgement()
        if why := unread_verdicts.get(manifest.id):
            judgement.unread.append(why)
        own = verdict_of.get(manifest.id, Verdict())
        judgement.look_at_files(sizes, manifest, bad, doubtful)
        judgement.take_over(own, {stored.path for stored in manifest.files()})
        sets.append(judgement.of(manifest, verdict_of.get(manifest.id)))
    return sets


class _Sizes:
    """The sizes of files in the directory; each is looked at once for all sets."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sizes: dict[str, int | OSError] = {}

    def of(self, path: str) -> int | OSError:
        """Its size in bytes, or why nobody can tell."""
        if path not in self._sizes:
            try:
                self._sizes[path] = (self._directory / path).stat().st_size
            except OSError as error:
                self._sizes[path] = error
        return self._sizes[path]


@dataclass(slots=True)
class _Judgement:
    """What is found of one set; the fields are those of `BackupSet`."""

    faults: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def look_at_files(
        self,
        sizes: _Sizes,
        manifest: Manifest,
        bad: Mapping[str, str],
        doubtful: Mapping[str, str],
    ) -> None:
        """Look at each file that a manifest names.

        bad: {path: what is wrong with it}, of all files that were found bad.
        doubtful: {path: why}, of all that could not be read.
        """
        for stored in manifest.files():
            path, size = stored.path, sizes.of(stored.path)
            if isinstance(size, presence.ABSENT):
                self.faults.append(f"{path}: {presence.describe(size)}")
            elif isinstance(size, int) and size != stored.size:
                self.faults.append(f"{path}: {size} bytes instead of {stored.size}")
            elif path in bad:
                self.faults.append(f"{path}: {bad[path]}")
            elif isinstance(size, OSError):
                said = presence.describe(size)
                self.unread.append(f"{path} cannot be looked at: {said}")
            elif path in doubtful:
                self.doubts.append(f"{path}: {doubtful[path]}")

    def take_over(self, verdict: Verdict, named: set[str]) -> None:
        """Take what was found of files that the manifest does not name, as blobs.

        named: paths of those that it names.
        """
        for fault in verdict.faults:
            if fault.path not in named:
                self.faults.append(f"{fault.path}: {fault.what}")
        for unread in verdict.unread:
            if unread.path not in named:
                self.doubts.append(f"{unread.path}: {unread.what}")

    def of(self, manifest: Manifest, verdict: Verdict | None) -> BackupSet:
        return BackupSet(
            manifest, (*self.faults,), verdict, (*self.unread,), (*self.doubts,)
        )
