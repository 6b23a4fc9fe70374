"""The backup directory of a cluster: what is in it, and where.

::

    tidstorage-backup.json      marks the whole (`tidstorage.sets.marker`)
    storages/<id>/              a plain repozo repository
    blobs/<id>/                 a pool of blobs, and lists that name them
    sets/<set id>/begun.json    that a backup began it; removed once it is made
    sets/<set id>/manifest.json one set; written last
    sets/<set id>/verified.json what verifications found of it
    sets/<set id>/tid.log       the daemon's TID log when the set was made
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.errors import EngineFailed, NoSuchSet, NotCoherent
from tidstorage.sets import listing, manifest, marker, verdicts
from tidstorage.sets.listing import BackupSet
from tidstorage.sets.manifest import Manifest
from tidstorage.sets.manifest_folder import ManifestFolder
from tidstorage.sets.verdicts import Depth, Fault, Verdict, Verification
from tidstorage.system import disks, permissions, private_files


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
                permissions.refuse_links(folder.iterdir())
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

    def pools(self) -> list[Path]:
        """The pools of all storages that ever had one here."""
        return [*(self.path / "blobs").glob("*")]

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

        Raises:
          EngineFailed: the disk fails.
          PermissionError: the directory may not be read.
        """
        read = self._manifests.read_all()
        return [content for content in read if isinstance(content, Manifest)]

    def broken_manifests(self) -> list[NotCoherent]:
        """Why manifests that are there cannot be believed, newest first.

        Raises: as `manifests`.
        """
        read = self._manifests.read_all()
        return [content for content in read if isinstance(content, NotCoherent)]

    def timelines(self) -> list[int]:
        """The numbers of the timelines of all sound sets' points.

        None where the directory cannot be read.
        """
        try:
            return [made.point.timeline for made in self.manifests()]
        except (EngineFailed, OSError):
            return []

    def set_ids(self) -> list[str]:
        """Ids of all sets, be they sound or broken, newest first.

        Raises: as `manifests`.
        """
        return [path.parent.name for path in self._manifests.find()]

    def sets(self) -> list[BackupSet]:
        """All sets with a sound manifest, newest first, each with its faults.

        One is whole here where every file that it names is there and has the right
        size, and no verification found anything wrong with it.

        Raises: as `manifests`.
        """
        return self._judge(self.manifests())

    def set(self, set_id: str) -> BackupSet:
        """The set of that id, whole or not.

        Raises:
          NoSuchSet: there is none.
          NotCoherent: its manifest is broken.
        """
        return self._judge([self.manifest(set_id)])[0]

    def manifest_path(self, set_id: str) -> Path:
        """Where the manifest of a set is, or would be."""
        return self.set_folder(set_id) / manifest.FILE_NAME

    def manifest(self, set_id: str) -> Manifest:
        """The manifest of the set of that id.

        Raises: as `set`.
        """
        path = self.manifest_path(set_id)
        if not path.is_file() or path.parent.parent != self.sets_folder:
            raise NoSuchSet(f"there is no set {set_id} in {self.path}")
        content = self._manifests.read(path)
        if isinstance(content, NotCoherent):
            raise content
        return content

    def faults(self, made: Manifest) -> tuple[str, ...]:
        """What is wrong with a set, in words; nothing where it is whole.

        As `sets` tells it.
        """
        return self._judge([made])[0].faults

    def _judge(self, manifests: Iterable[Manifest]) -> list[BackupSet]:
        return listing.judge_sets(self.path, manifests, self.verdicts())

    def tid_log_path(self, set_id: str) -> Path:
        """Where a set keeps a copy of the daemon's TID log, if there was one."""
        return self.set_folder(set_id) / "tid.log"

    # What verifications found

    def verdict(self, set_id: str) -> Verdict | None:
        """What verifications found of a set; None where there was none."""
        return verdicts.read(self._verdict_path(set_id))

    def verdicts(self) -> Mapping[str, Verdict]:
        """{set id: what verifications found}, of all sets that were verified."""
        paths = self.sets_folder.glob(f"*/{verdicts.FILE_NAME}")
        read = {path.parent.name: verdicts.read(path) for path in paths}
        return {
            set_id: verdict for set_id, verdict in read.items() if verdict is not None
        }

    def note_verification(self, set_id: str, verification: Verification) -> None:
        """Keep what a verification found, unless the set is gone meanwhile."""
        verdict = verdicts.update(self.verdict(set_id), verification)
        self._write_verdict(set_id, verdict)

    def note_fault(self, set_ids: Iterable[str], fault: Fault) -> None:
        """Keep for each of these sets that a file which it needs has a fault."""
        for set_id in set_ids:
            verdict = self.verdict(set_id) or Verdict()
            if fault not in verdict.faults:
                self._write_verdict(set_id, verdicts.add_fault(verdict, fault))

    def _write_verdict(self, set_id: str, verdict: Verdict) -> None:
        # A prune may have taken the set meanwhile.
        if self.manifest_path(set_id).exists():
            verdicts.write(self._verdict_path(set_id), verdict)

    def forget_fault(self, path: str, depth: Depth) -> None:
        """A file that was bad is good again: no set has that fault any more.

        path: of the file, relative to the directory.  depth: how deeply it was
        looked at; what a deeper look found stays.
        """
        for set_id, verdict in self.verdicts().items():
            without = verdicts.remove_fault(verdict, path, depth)
            if without != verdict:
                verdicts.write(self._verdict_path(set_id), without)

    def _verdict_path(self, set_id: str) -> Path:
        return self.set_folder(set_id) / verdicts.FILE_NAME
