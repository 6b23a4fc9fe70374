"""A cluster as the tools see it: every path absolute, every default filled in.

``clusterfile`` reads cluster.toml and makes one of these; nothing else does.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.cluster.renaming import rename_vector
from tidstorage.system.address import Address

#: What Zope calls the database that is mounted at "/", and no other.
ROOT_DATABASE = "main"


@dataclass(frozen=True, slots=True)
class Zeo:
    """One ZEO server process; ``name`` is unique among servers."""

    name: str
    address: Address
    managed: bool
    configuration: Path
    log: Path
    pid_file: Path


@dataclass(frozen=True, slots=True)
class Storage:
    """One ZODB storage; ``id`` is also its name on its ZEO server."""

    id: str
    zeo: str
    mount_point: str
    data_file: Path
    blob_directory: Path | None
    aliases: tuple[str, ...]
    cache_size: int
    client_cache_size: str

    @property
    def database_name(self) -> str:
        """What Zope, and so every reference from another database, calls it."""
        return ROOT_DATABASE if self.mount_point == "/" else self.id


@dataclass(frozen=True, slots=True)
class Zope:
    """One Zope process (``count = 2`` in the description makes two)."""

    name: str
    host: str
    port: int
    threads: int
    managed: bool
    eggs: tuple[str, ...]
    environment: dict[str, str]
    zope_conf_additional: str
    cache_directory: Path
    configuration: Path
    wsgi_configuration: Path
    log: Path
    pid_file: Path


@dataclass(frozen=True, slots=True)
class Daemon:
    """The coherency daemon."""

    host: str
    port: int
    configuration: Path
    tid_log: Path
    journal: Path
    log: Path
    pid_file: Path
    burst_period: int
    full_dump_period: int


@dataclass(frozen=True, slots=True)
class Backup:
    """Where sets go, and when; ``schedule`` is five crontab fields, or None.

    full_every: how old full copies get; None: for ever.  ping_url: fetched after a
    good backup; ping_url_file: holds one that is secret.
    """

    directory: Path
    schedule: str | None
    jobs: int
    compress: bool
    pre_command: str | None
    post_command: str | None
    full_every: datetime.timedelta | None = None
    ping_url: str | None = None
    ping_url_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """Which sets are kept (`tidstorage.verbs.prune.retention`), and when cron prunes.

    schedule: five crontab fields, or None.
    """

    keep_full: int = 2
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class Verify:
    """Which sets are verified, how deeply, how long at most, and when by cron.

    schedule: five crontab fields, or None.  scratch: where they are restored to.
    """

    schedule: str | None = None
    sets: Literal["latest", "all"] = "latest"
    depth: Literal["sizes", "digests", "objects"] = "digests"
    time_budget: datetime.timedelta | None = None
    scratch: Path = Path("var/verify")


@dataclass(frozen=True, slots=True)
class Pack:
    """When storages are packed, and how many days of history that leaves."""

    schedule: str | None = None
    keep_days: int = 7


@dataclass(frozen=True, slots=True)
class Cluster:
    """The whole; ``directory`` is the folder of its cluster.toml."""

    name: str
    file: Path
    directory: Path
    user: str | None
    zeos: tuple[Zeo, ...]
    storages: tuple[Storage, ...]
    retired: frozenset[str]
    zopes: tuple[Zope, ...]
    daemon: Daemon
    backup: Backup
    bin_directory: Path
    etc_directory: Path
    log_directory: Path
    run_directory: Path
    supervisor_configuration: Path
    supervisor_socket: Path
    retention: Retention = Retention()
    verify: Verify = Verify()
    pack: Pack = Pack()
    time_zone: str | None = None

    def storage(self, storage_id: str) -> Storage:
        """The storage of that id; KeyError where there is none."""
        for storage in self.storages:
            if storage.id == storage_id:
                return storage
        raise KeyError(storage_id)

    def zeo(self, name: str) -> Zeo:
        """The ZEO server of that name; KeyError where there is none."""
        for zeo in self.zeos:
            if zeo.name == name:
                return zeo
        raise KeyError(name)

    def storages_of(self, zeo_name: str) -> tuple[Storage, ...]:
        """The storages that one ZEO server serves, in the description's order."""
        return tuple(each for each in self.storages if each.zeo == zeo_name)

    @property
    def aliases(self) -> dict[str, str]:
        """{old id: present id} of all storages."""
        return {old: each.id for each in self.storages for old in each.aliases}

    def present_ids(self, vector: Mapping[str, int]) -> dict[str, int]:
        """A vector that may be of before a renaming, under the ids of now."""
        return rename_vector(vector, self.aliases)
