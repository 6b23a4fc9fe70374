"""What the original's backup scripts work on, as its configuration names it.

Each storage has a repozo repository of its own.  A backup that succeeded is a
line in the timestamp file; the TID log is copied before each, under a name that
ends with the time.
"""

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.errors import DescriptionError, EngineFailed, NoSuchSet, NotCoherent
from tidstorage.legacy.configuration import Configuration
from tidstorage.points import tid_log as tidlog
from tidstorage.sets import repozo
from tidstorage.system import clock, durable

_SECOND = "%Y-%m-%d-%H-%M-%S"
_IS_SECOND = re.compile(r"\d{4}(-\d\d){5}")
#: Seconds a clock may have gone back before it is an error rather than a wait.
_CLOCK_TOLERANCE = 5.0


@dataclass(frozen=True, slots=True)
class SiteStorage:
    """A storage, by the id that TID logs have for it."""

    id: str
    aliases: tuple[str, ...]
    data_file: Path
    repository: Path


@dataclass(frozen=True, slots=True)
class Site:
    """All paths absolute; ``keep_full``: how many full copies ``--cleanup`` keeps."""

    storages: tuple[SiteStorage, ...]
    timestamps: Path
    status_file: Path | None
    status_backups: Path | None
    keep_full: int | None

    @property
    def lock_file(self) -> Path:
        """Beside what every run reads or writes."""
        return self.timestamps.with_name(f"{self.timestamps.name}.lock")

    @property
    def swap_journal(self) -> Path:
        """Where a restore writes down the swap under way."""
        return self.timestamps.with_name(f"{self.timestamps.name}.restore-swap.json")

    @property
    def aliases(self) -> dict[str, str]:
        """{name in stamps: id}."""
        return {alias: each.id for each in self.storages for alias in each.aliases}


def site(configuration: Configuration) -> Site:
    """DescriptionError where something that is needed is not in the file."""
    path = configuration.path
    timestamps = configuration.file("timestamp_file_path")
    if timestamps is None:
        raise DescriptionError(f"{path}: timestamp_file_path is missing")
    if not configuration.storages:
        raise DescriptionError(f"{path}: known_tid_storage_identifier_dict is missing")
    storages = []
    for each in configuration.storages:
        if each.data_file is None or each.repository is None:
            raise DescriptionError(
                f"{path}: known_tid_storage_identifier_dict: expected for {each.id} a"
                " tuple of the absolute paths of its Data.fs and of its repository"
            )
        storages.append(
            SiteStorage(each.id, each.aliases, each.data_file, each.repository)
        )
    keep_full = configuration.number("keep_full_backup_count", 0)
    return Site(
        tuple(storages),
        timestamps,
        configuration.file("status_file"),
        configuration.file("status_file_backup_dir"),
        int(keep_full) or None,
    )


def last_timestamp(site: Site) -> str:
    """When the last backup succeeded, as repozo's ``-D`` takes it; NoSuchSet."""
    found = timestamps(site)
    if not found:
        raise NoSuchSet(
            f"{site.timestamps} tells of no backup that succeeded",
            "Is timestamp_file_path right in the configuration?",
        )
    return found[-1]


def timestamps(site: Site) -> list[str]:
    """All, oldest first; a torn line is passed over."""
    try:
        lines = site.timestamps.read_text().split()
    except FileNotFoundError:
        return []
    return sorted(filter(_IS_SECOND.fullmatch, lines))


def note_success(site: Site) -> str:
    """Write down that a backup succeeded now, on disk; the time."""
    second = f"{clock.now():{_SECOND}}"
    is_new = not site.timestamps.exists()
    with site.timestamps.open("a") as stream:
        # First the line feed, as the original: a torn line stays by itself.
        stream.write(f"\n{second}")
        stream.flush()
        os.fsync(stream.fileno())
    if is_new:
        durable.sync_folder(site.timestamps.parent)
    return second


def next_second(site: Site) -> str:
    """A time later than that of every copy and success; waits for it.

    Else a copy of this run would belong to the former backup, by its name.
    """
    taken = [repozo.newest_second(each.repository) for each in site.storages]
    latest = max([*taken, *timestamps(site)[-1:]])
    deadline = time.monotonic() + _CLOCK_TOLERANCE
    while (second := f"{clock.now():{_SECOND}}") <= latest:
        if time.monotonic() > deadline:
            raise EngineFailed(
                f"the clock says {second} UTC, but there is a backup of {latest}",
                "Correct the clock of this machine.",
            )
        time.sleep(0.05)
    return second


def vector_of(tid_log: Path, storages: Iterable[str]) -> Mapping[str, int]:
    """{storage id: last TID to keep}, the last that a TID log tells.

    NotCoherent where it does not tell of every storage; FileUnreadable.
    """
    vector = tidlog.read_last(tid_log)
    wanted = list(storages)
    if missing := [each for each in wanted if each not in vector]:
        raise NotCoherent(
            f"{tid_log} has no point with storage {', '.join(missing)}",
            "Give another one (status_file_backup_dir has one for each backup); without"
            " any, tidstorage-cut and tidstorage-restore judge the files themselves.",
        )
    return {each: vector[each] for each in wanted}
