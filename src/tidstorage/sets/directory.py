"""The backup directory of a cluster: what is in it, and where.

::

    tidstorage-backup.json      marks the whole (`tidstorage.sets.marker`)
    storages/<id>/              a plain repozo repository
    blobs/<id>/                 a pool of blobs, and lists that name them
    sets/<set id>/begun.json    that a backup began it; removed once it is made
    sets/<set id>/manifest.json one set; written last
    sets/<set id>/verified.json what verifications found of it
    sets/<set id>/tid.log       the daemon's TID log when the set was made
    sets/<set id>/cluster.toml  the description of the cluster then
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.errors import EngineFailed, NoSuchSet, NotCoherent, SetUnreadable
from tidstorage.sets import listing, manifest, marker
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.manifest import Manifest
from tidstorage.sets.manifest_folder import ManifestFolder
from tidstorage.sets.verdict_files import VerdictFiles
from tidstorage.sets.verdicts import Depth, Fault, Unread, Verdict, Verification
from tidstorage.system import disks, permissions, presence, private_files

logger = logging.getLogger(__name__)


class BackupDirectory:
    """One backup directory, opened once in a run of a command.

    Made by `open`, to read, or by `begin`, to write: both refuse a directory
    that is not the one that was used before.  Others may write to it meanwhile:
    each call looks which sets there are.  A manifest never changes, so each is
    read from disk once.

    path: of the directory, absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifests = ManifestFolder(self.sets_folder)
        self._verdicts = VerdictFiles(self.sets_folder)

    @classmethod
    def open(cls, cluster: Cluster, *, adopt: bool = False) -> "BackupDirectory":
        """The backup directory, to read from; it need not be there yet.

        adopt: whatever history it is of.

        Raises:
          BackupDirectoryLost: it was used before, and is not there now or is another.
          OtherHistory: it holds the backups of another cluster.
          FileUnreadable: what says whether it is cannot be read.
        """
        if not adopt:
            marker.refuse_another(cluster)
        return cls(cluster.backup.directory)

    @classmethod
    def open_to_change(cls, cluster: Cluster) -> "BackupDirectory":
        """The backup directory, to change what is there already.

        Raises:
          OtherHistory: it is another cluster's, or that of another copy of this one.
          and as `open`.
        """
        marker.refuse_to_change(cluster)
        return cls(cluster.backup.directory)

    @classmethod
    def begin(cls, cluster: Cluster, *, adopt: bool = False) -> "BackupDirectory":
        """The backup directory, to write to: made, marked and noted where it is new.

        adopt: go on with what lies there, whose ever it was.

        Raises:
          BackupDirectoryLost, OtherHistory, FileUnreadable: as `open_to_change`.
          NotPermitted, Unprotected: others could change or read what is written.
        """
        directory = cls(cluster.backup.directory)
        if not adopt:
            directory = cls.open_to_change(cluster)
        if not marker.is_noted(cluster):
            private_files.make_folder(directory.path)
        directory._refuse_unprotected(cluster.storages)
        marker.mark(cluster, adopt=adopt)
        return directory

    @property
    def history(self) -> str | None:
        """The id of the history that lies here; None where nothing tells.

        Raises: FileUnreadable: where the marker cannot be read.
        """
        content = marker.read_in(self.path)
        return None if content is None else content.history

    def _refuse_unprotected(self, storages: Iterable[Storage]) -> None:
        permissions.refuse_other_owner(self.path)
        permissions.refuse_links(self._written_to([storage.id for storage in storages]))
        for storage in storages:
            folder = self.repository(storage.id)
            if folder.is_dir():
                permissions.refuse_links_in(folder)
                permissions.refuse_more_readable(self.path, folder, storage.data_file)

    def _written_to(self, storage_ids: Iterable[str]) -> Iterator[Path]:
        """The folders that a backup writes to."""
        yield self.sets_folder
        yield self.path / "storages"
        yield self.path / "blobs"
        for storage_id in storage_ids:
            yield self.repository(storage_id)
            yield self.pool(storage_id)

    # Where things are

    @property
    def sets_folder(self) -> Path:
        """The folder with a folder for each set."""
        return self.path / "sets"

    def set_folder(self, set_id: str) -> Path:
        """The folder of one set."""
        return self.sets_folder / set_id

    def repository(self, storage_id: str) -> Path:
        """The repozo repository of one storage."""
        return self.path / "storages" / storage_id

    def pool(self, storage_id: str) -> Path:
        """The blobs of one storage, of all sets."""
        return self.path / "blobs" / storage_id

    def set_folders(self) -> list[Path]:
        """What may be the folder of a set, made, begun or half removed, by name.

        Raises: as `manifests`.
        """
        return self._manifests.list_folders()

    def pools(self) -> list[Path]:
        """The pools of all storages that ever had one here.

        Raises: OSError: where nobody can tell.
        """
        folder = self.path / "blobs"
        # Not by a glob, which finds nothing in a folder that it cannot read.
        found = folder.iterdir() if presence.is_there(folder) else ()
        return [path for path in found if path.is_dir() and not path.is_symlink()]

    def relative(self, path: Path) -> str:
        """A path as manifests name it."""
        return str(path.relative_to(self.path))

    def shares_disk_with(self, storages: Iterable[Storage]) -> list[Storage]:
        """The storages that would be lost with the disk that their backups are on."""
        present = [storage for storage in storages if storage.data_file.exists()]
        files = [storage.data_file for storage in present]
        shared = disks.on_one_disk(self.path, files)
        return [storage for storage in present if storage.data_file in shared]

    # Sets

    def manifests(self) -> list[Manifest]:
        """The sound manifests, newest first.

        Raises: SetUnreadable: where nobody can tell which there are.
        """
        read = self._manifests.read_all()
        return [content for content in read if isinstance(content, Manifest)]

    def broken_manifests(self) -> list[NotCoherent]:
        """Why manifests that are there cannot be believed, newest first.

        Raises: as `manifests`.
        """
        read = self._manifests.read_all()
        return [content for content in read if isinstance(content, NotCoherent)]

    def unread_manifests(self) -> dict[str, SetUnreadable]:
        """{set id: why nobody could read its manifest}, newest first.

        Raises: as `manifests`.
        """
        read = {path.parent.name: content for path, content in self._manifests.items()}
        return {
            set_id: content
            for set_id, content in read.items()
            if isinstance(content, SetUnreadable)
        }

    def strangers(self) -> list[str]:
        """Links and copies of set folders, which are no sets of their own, in words.

        Raises: as `manifests`.
        """
        return self._manifests.find_strangers()

    def timelines(self) -> list[int]:
        """The numbers of the timelines of all sound sets' points.

        None where the directory cannot be read.
        """
        try:
            return [made.point.timeline for made in self.manifests()]
        except EngineFailed:
            return []

    def strange_manifests(self) -> list[Manifest]:
        """The manifests in links and copies whose set itself is not here.

        Somebody may have moved it: what it names is not free for others.

        Raises: SetUnreadable: as `manifests`, and where one could not be read.
        """
        here = set(self.set_ids())
        strangers = self._manifests.read_strangers()
        return [made for made in strangers if made.id not in here]

    def set_ids(self) -> list[str]:
        """Ids of all sets, be they sound or broken, newest first.

        Raises: as `manifests`.
        """
        return [path.parent.name for path in self._manifests.find()]

    def sets(self) -> list[BackupSet]:
        """All sets with a sound manifest, newest first, each with its faults.

        One is whole here where every file that it names is there and has the right
        size, and no verification found anything wrong with it, or could not read it.

        Raises: as `manifests`.
        """
        return self.judge(self.manifests())

    def set(self, set_id: str) -> BackupSet:
        """The set of that id, whole or not.

        Raises:
          NoSuchSet: there is none.
          NotCoherent: its manifest is broken.
          SetUnreadable: its manifest could not be read.
        """
        return self.judge([self.manifest(set_id)])[0]

    def manifest_path(self, set_id: str) -> Path:
        """Where the manifest of a set is, or would be."""
        return self.set_folder(set_id) / manifest.FILE_NAME

    def manifest(self, set_id: str) -> Manifest:
        """The manifest of the set of that id.

        Raises: as `set`.
        """
        path = self.manifest_path(set_id)
        if path.parent.parent != self.sets_folder or self._manifests.is_link(path):
            raise NoSuchSet(f"there is no set {set_id} in {self.path}")
        content = self._manifests.read(path)
        if isinstance(content, NotCoherent):
            if isinstance(content.__cause__, presence.ABSENT):
                raise NoSuchSet(f"there is no set {set_id} in {self.path}")
            raise content
        if isinstance(content, SetUnreadable):
            raise content
        if content.id != set_id:
            raise NoSuchSet(
                f"there is no set {set_id} in {self.path}: the folder of that name"
                f" holds the manifest of set {content.id}"
            )
        return content

    def judge(self, manifests: Iterable[Manifest]) -> list[BackupSet]:
        """The sets of these manifests, each with its faults, as `sets` has them."""
        manifests = [*manifests]
        set_ids = {made.id for made in manifests}
        try:
            set_ids |= set(self.set_ids())
        except SetUnreadable as error:
            # Of the others, which share files with these, nobody can tell.
            logger.warning("%s", error)
        verdict_of, unread = self._verdicts.read_all(set_ids)
        return listing.judge_sets(self.path, manifests, verdict_of, unread)

    def description_path(self, set_id: str) -> Path:
        """Where a set keeps a copy of the cluster.toml of then."""
        return self.set_folder(set_id) / "cluster.toml"

    def tid_log_path(self, set_id: str) -> Path:
        """Where a set keeps a copy of the daemon's TID log, if there was one."""
        return self.set_folder(set_id) / "tid.log"

    # What verifications found

    def verdict(self, set_id: str) -> Verdict | None:
        """What verifications found of a set; None where there was none.

        Raises: SetUnreadable: where that could not be read.
        """
        return self._verdicts.read(set_id)

    def verdicts(self) -> Mapping[str, Verdict]:
        """{set id: what verifications found}, of all sets that were verified.

        Without those of which it could not be read.

        Raises: as `manifests`.
        """
        return self._verdicts.read_all(self.set_ids())[0]

    def note_verification(self, set_id: str, verification: Verification) -> None:
        """Keep what a verification found, unless the set is gone meanwhile.

        Raises: SetUnreadable: what was known before could not be read; it stays.
        """
        self._verdicts.note_verification(set_id, verification)

    def note_fault(self, set_ids: Iterable[str], fault: Fault) -> None:
        """Keep for each of these sets that a file which it needs has a fault."""
        self._verdicts.note_fault(set_ids, fault)

    def note_unread(self, set_ids: Iterable[str], unread: Unread) -> None:
        """Keep for each of these sets that a file which it needs could not be read."""
        self._verdicts.note_unread(set_ids, unread)

    def forget_fault(self, path: str, depth: Depth) -> None:
        """A file that was bad, or not to be read, is good: no set suffers any more.

        path: of the file, relative to the directory.  depth: how deeply it was
        looked at; what a deeper look found stays.
        """
        self._verdicts.forget_fault(self.set_ids(), path, depth)
