"""Where a restore puts things: in place of the cluster's files, or elsewhere."""

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.engines.filestorage import index, lock
from tidstorage.errors import EngineFailed, NotPermitted, TargetExists
from tidstorage.system import clock, mounts, permissions, users
from tidstorage.verbs.restore.swap import Action

STAGING_SUFFIX = ".restoring"
KEPT = ".before-restore-"
DROPPED = ".dropped-"


@dataclass(frozen=True, slots=True)
class Target:
    """One storage's files; links are followed, so that a rename stays a rename.

    index: FileStorage's, which is beside the link where the file is behind one.
    """

    data_file: Path
    index: Path
    blob_directory: Path | None

    @property
    def staged_data_file(self) -> Path:
        return _staged(self.data_file)

    @property
    def staged_blob_directory(self) -> Path | None:
        return self.blob_directory and _staged(self.blob_directory)

    def remove_staging(self) -> None:
        """Remove what a restore that did not come to its swap has left.

        Raises: Unprotected: where somebody has put a link in its place.
        """
        staged = self.staged_data_file
        permissions.refuse_links(filter(None, (staged, self.staged_blob_directory)))
        for path in (staged, index.path_of(staged), lock.path_of(staged)):
            path.unlink(missing_ok=True)
        blobs = self.staged_blob_directory
        if blobs and blobs.exists():
            shutil.rmtree(blobs)

    def has_kept(self, moment: str) -> bool:
        """Whether old files, or parts of them, are kept under that moment already."""
        return self.dropped(moment).exists() or any(
            _kept(path, moment).exists() for path in self._replaced()
        )

    def dropped(self, moment: str) -> Path:
        """Where the tail of the present file is kept that is cut off it."""
        return self.data_file.with_name(f"{self.data_file.name}{DROPPED}{moment}")

    def give_to_owners(self) -> None:
        """Let what is staged belong to whom the present files belong, as they do."""
        staged = self.staged_data_file
        owner = self.data_file if self.data_file.exists() else self.data_file.parent
        users.give_like((staged, index.path_of(staged)), owner)
        if self.data_file.exists() and staged.exists():
            shutil.copymode(self.data_file, staged)
        blobs, staged_blobs = self.blob_directory, self.staged_blob_directory
        if blobs and staged_blobs and staged_blobs.exists():
            users.give_like((staged_blobs,), blobs if blobs.exists() else owner)
            if blobs.exists():
                shutil.copymode(blobs, staged_blobs)

    def _replaced(self) -> list[Path]:
        """What is there now, or may be."""
        paths = [self.data_file, self.index]
        return [*paths, self.blob_directory] if self.blob_directory else paths

    def cutting_actions(self, moment: str, last: int) -> Iterator[Action]:
        """Cut the present file behind the TID ``last``; blobs as `actions`."""
        dropped = str(self.dropped(moment))
        yield Action("cut", str(self.data_file), dropped, tid.to_text(last))
        if self.index != index.path_of(self.data_file):
            # It reaches beyond the cut: FileStorage makes it anew.
            yield Action("remove", str(self.index))
        if self.blob_directory and self.staged_blob_directory:
            yield from _exchange(
                [self.blob_directory],
                [(self.staged_blob_directory, self.blob_directory)],
                moment,
            )

    def actions(self, moment: str) -> Iterator[Action]:
        """Keep what is there under another name, and put the new in its place."""
        pairs = [(self.staged_data_file, self.data_file)]
        if self.blob_directory and self.staged_blob_directory:
            pairs.append((self.staged_blob_directory, self.blob_directory))
        staged_index = index.path_of(self.staged_data_file)
        if self.index.parent == staged_index.parent:
            pairs.append((staged_index, self.index))
        yield from _exchange(self._replaced(), pairs, moment)
        yield Action("remove", str(staged_index))


def _exchange(
    replaced: Iterable[Path], pairs: Iterable[tuple[Path, Path]], moment: str
) -> Iterator[Action]:
    """Keep what is there, then place what is staged: (staged, its place)."""
    for path in replaced:
        if path.exists():
            yield Action("keep", str(path), str(_kept(path, moment)))
    for staged, path in pairs:
        if staged.exists():
            yield Action("place", str(staged), str(path))


def _kept(path: Path, moment: str) -> Path:
    return path.with_name(f"{path.name}{KEPT}{moment}")


def _staged(path: Path) -> Path:
    return path.with_name(path.name + STAGING_SUFFIX)


def _refuse_others_file(path: Path) -> None:
    """Its server could not open what we would put in its place."""
    if os.geteuid() == 0 or not path.exists():
        return
    if os.geteuid() not in (path.stat().st_uid, path.parent.stat().st_uid):
        raise NotPermitted(f"{path} and its folder belong to another user")


def targets_in_place(cluster: Cluster) -> dict[str, Target]:
    """The cluster's own files as targets: {storage id: its target}.

    Raises:
      EngineFailed: a blob directory is a mount point, and cannot be renamed.
      NotPermitted: a file is somebody else's.
    """
    targets = {}
    for storage in cluster.storages:
        _refuse_others_file(storage.data_file.resolve())
        blobs = storage.blob_directory
        if blobs is not None and blobs.exists() and mounts.is_mount_point(blobs):
            raise EngineFailed(
                f"{blobs} is a mount point and cannot be renamed",
                "Let blob-dir be a folder below it.",
            )
        targets[storage.id] = Target(
            storage.data_file.resolve(),
            index.path_of(storage.data_file),
            blobs.resolve() if blobs else None,
        )
    return targets


def targets_elsewhere(
    directory: Path, storages: Mapping[str, bool]
) -> dict[str, Target]:
    """{storage id: files below ``directory``}; the map tells who has blobs."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise TargetExists(
            f"{directory} is not an empty folder",
            "Give a folder that is empty, or is not there.",
        )
    if directory.exists():
        permissions.refuse_other_owner(directory)
    targets = {}
    for storage, has_blobs in storages.items():
        folder = directory.resolve() / storage
        data_file = folder / "Data.fs"
        blobs = folder / "blobs" if has_blobs else None
        targets[storage] = Target(data_file, index.path_of(data_file), blobs)
    return targets


def cached_files(cluster: Cluster) -> list[Path]:
    """All that ZEO clients here have cached: after a restore, of a lost timeline."""
    return [
        path
        for zope in cluster.zopes
        if zope.cache_directory.is_dir()
        for path in sorted(zope.cache_directory.iterdir())
    ]


def unused_moment(targets: Collection[Target]) -> str:
    """The present second in UTC, or the next one that no kept file is named by."""
    return first_unused(lambda moment: any(where.has_kept(moment) for where in targets))


def first_unused(is_taken: Callable[[str], bool]) -> str:
    """The present second in UTC, as files are named by it, or the next unused one."""
    while is_taken(moment := f"{clock.now():%Y%m%dT%H%M%SZ}"):
        time.sleep(0.05)
    return moment


def remove_staging(targets: Collection[Target]) -> None:
    """Remove the staging of all.

    Raises: as `Target.remove_staging`.
    """
    for target in targets:
        target.remove_staging()
