"""A cluster that can be backed up and restored without any server."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_cluster import SmallCluster
from torn_files import TornFiles

from tidstorage.sets import begun
from tidstorage.sets.directory import BackupDirectory
from tidstorage.system import clock
from tidstorage.zeo import barrier
from tidstorage.zeo.barrier import Instant, StorageEnd


class OfflineSite:
    """Two storages, one with blobs; a barrier finds what the files end with."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files = TornFiles(folder / "files", "a b", blobs="a")
        whole = SmallCluster(folder / "cluster").cluster(jobs=1)
        storage = whole.storages[0]
        self.cluster = dataclasses.replace(
            whole,
            zeos=(),
            storages=tuple(
                dataclasses.replace(
                    storage,
                    id=each,
                    mount_point=f"/{each}",
                    data_file=path,
                    blob_directory=self.files.blobs.get(each),
                )
                for each, path in self.files.paths.items()
            ),
        )
        monkeypatch.setattr(
            "tidstorage.processes.running.find_running", lambda _cluster: []
        )
        monkeypatch.setattr(barrier, "storages_of", lambda _cluster: ())
        monkeypatch.setattr(barrier, "take_instant", lambda _storages: self.instant())

    def instant(self) -> Instant:
        """What a barrier would see now; nobody writes."""
        ends = {
            each: StorageEnd(last, self.files.paths[each].stat().st_size)
            for each, last in self.files.last_tids().items()
        }
        return Instant(clock.now(), ends, {})

    def contents(self) -> dict[Path, bytes]:
        found = {path: path.read_bytes() for path in self.files.paths.values()}
        for path in self.files.blobs["a"].rglob("*.blob"):
            found[path] = path.read_bytes()
        return found

    def commit(self, *groups: str) -> None:
        self.files._open()
        for group in groups:
            self.files.commit(group)
        self.files.close()

    def excess(self) -> Iterator[Path]:
        """Files of the backup directory that no set needs, and sets without any."""
        directory = self.cluster.backup.directory
        named = {
            directory / each.path
            for found in BackupDirectory(directory).sets()
            for each in found.manifest.files()
        }
        for storage in self.cluster.storages:
            folder = BackupDirectory(directory).repository(storage.id)
            for path in folder.iterdir():
                data = path.suffix in (".fs", ".fsz", ".deltafs", ".deltafsz", ".tmp")
                if data and path not in named:
                    yield path
        for folder in BackupDirectory(directory).sets_folder.iterdir():
            if (
                not (folder / "manifest.json").exists()
                or (folder / begun.FILE_NAME).exists()
            ):
                yield folder
