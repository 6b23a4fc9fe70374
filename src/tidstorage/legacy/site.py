"""What the original's backup scripts work on, as its configuration names it.

Each storage has a repozo repository of its own.  A backup that succeeded is a line
in the timestamp file.  Before each backup the TID log is copied, under a name that
ends with the time.

Times are those of repozo's file names: ``YYYY-mm-dd-HH-MM-SS``, in UTC.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.errors import (
    DescriptionError,
    InterruptedRestore,
    NoSuchSet,
    NotCoherent,
)
from tidstorage.legacy.configuration import Configuration
from tidstorage.operation import lock
from tidstorage.points import tid_log as tidlog
from tidstorage.sets import repozo
from tidstorage.system import durable

_IS_SECOND = re.compile(r"\d{4}(-\d\d){5}")


@dataclass(frozen=True, slots=True)
class SiteStorage:
    """One storage; ``id`` is what TID logs call it, ``aliases`` what stamps may."""

    id: str
    aliases: tuple[str, ...]
    data_file: Path
    repository: Path


@dataclass(frozen=True, slots=True)
class Site:
    """All paths are absolute.

    timestamps: the file with a line for each backup that succeeded.  status_file:
    the daemon's TID log; status_backups: the folder for copies of it.  keep_full:
    how many full copies ``--cleanup`` keeps; None: that is not configured.
    """

    storages: tuple[SiteStorage, ...]
    timestamps: Path
    status_file: Path | None
    status_backups: Path | None
    keep_full: int | None

    @property
    def lock_file(self) -> Path:
        """Beside the timestamps, which every run reads or writes."""
        return self.timestamps.with_name(f"{self.timestamps.name}.lock")

    @property
    def swap_journal(self) -> Path:
        """Where a restore writes down its swap of files while that is under way."""
        return self.timestamps.with_name(f"{self.timestamps.name}.restore-swap.json")

    @property
    def aliases(self) -> dict[str, str]:
        """{name in stamps: storage id}."""
        return {
            alias: storage.id for storage in self.storages for alias in storage.aliases
        }


def read_site(configuration: Configuration) -> Site:
    """The site that a configuration describes.

    Raises: DescriptionError: where something that is needed is not in the file.
    """
    path = configuration.path
    timestamps = configuration.file("timestamp_file_path")
    if timestamps is None:
        raise DescriptionError(f"{path}: timestamp_file_path is missing")
    if not configuration.storages:
        raise DescriptionError(f"{path}: known_tid_storage_identifier_dict is missing")
    storages = []
    for storage in configuration.storages:
        if storage.data_file is None or storage.repository is None:
            raise DescriptionError(
                f"{path}: known_tid_storage_identifier_dict: the value of"
                f" {storage.id} has to be a tuple: the absolute path of its Data.fs,"
                " then that of its repozo repository"
            )
        storages.append(
            SiteStorage(
                storage.id, storage.aliases, storage.data_file, storage.repository
            )
        )
    keep_full = configuration.number("keep_full_backup_count", 0)
    return Site(
        tuple(storages),
        timestamps,
        configuration.file("status_file"),
        configuration.file("status_file_backup_dir"),
        int(keep_full) or None,
    )


@contextlib.contextmanager
def hold_alone(site: Site, command: str) -> Iterator[int]:
    """Work on a site that nobody else works on; yields the lock's descriptor.

    command: what others are told who find the lock held.

    Raises:
      Locked: where another run holds the lock.
      InterruptedRestore: where a restore stopped amid its swap of files.
    """
    with lock.hold_file(site.lock_file, command) as descriptor:
        if site.swap_journal.exists():
            raise InterruptedRestore(
                f"a restore was interrupted in the middle: {site.swap_journal}",
                "Run the restore again (tidstorage_repozo -R): it only brings that"
                " one to its end.",
            )
        yield descriptor


def read_last_timestamp(site: Site) -> str:
    """When the last backup succeeded, as repozo's ``-D`` takes it.

    Raises: NoSuchSet: where none has succeeded yet.
    """
    seconds = read_timestamps(site)
    if not seconds:
        raise NoSuchSet(
            f"{site.timestamps} names no backup that succeeded",
            "Is timestamp_file_path right in the configuration?",
        )
    return seconds[-1]


def read_timestamps(site: Site) -> list[str]:
    """When backups succeeded, oldest first; a torn line is passed over."""
    try:
        lines = site.timestamps.read_text().split()
    except FileNotFoundError:
        return []
    return sorted(filter(_IS_SECOND.fullmatch, lines))


def note_success(site: Site) -> str:
    """Write down, on disk, that a backup succeeded now; returns that time."""
    second = repozo.current_second()
    is_new = not site.timestamps.exists()
    with site.timestamps.open("a") as stream:
        # First the line feed, as the original: a torn line stays by itself.
        stream.write(f"\n{second}")
        stream.flush()
        os.fsync(stream.fileno())
    if is_new:
        durable.sync_folder(site.timestamps.parent)
    return second


def await_next_second(site: Site) -> str:
    """Wait for a second later than every copy and every success; returns it.

    A copy of this run would otherwise belong to the former backup, by its name.

    Raises: ClockWentBack: where it would have to wait for long.
    """
    taken = [repozo.find_newest_second(storage.repository) for storage in site.storages]
    latest = max([*taken, *read_timestamps(site)[-1:]])
    return repozo.await_second_after(latest, "Correct the clock of this machine.")


def read_vector(tid_log: Path, storages: Iterable[str]) -> Mapping[str, int]:
    """{storage id: TID of the last transaction to keep}: a TID log's last point.

    Raises:
      NotCoherent: where the point does not have every storage.
      FileUnreadable: where the log is missing or has no point.
    """
    vector = tidlog.read_last(tid_log)
    wanted = list(storages)
    if missing := [storage for storage in wanted if storage not in vector]:
        raise NotCoherent(
            f"the last point in {tid_log} lacks storage {', '.join(missing)}",
            "Give another TID log: status_file_backup_dir has one for each backup."
            " Without any TID log, restore without --tid_log, then tidstorage-cut and"
            " tidstorage-restore find in the files themselves what fits together.",
        )
    return {storage: vector[storage] for storage in wanted}
