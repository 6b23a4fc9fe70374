"""A cluster as the tools see it: every path is absolute, every default filled in.

`tidstorage.cluster.load` makes a `Cluster` from a cluster.toml; nothing else does.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidstorage.cluster.renaming import Anything, rename_vector
from tidstorage.system.address import Address

#: What Zope calls the database that is mounted at "/", and no other.
ROOT_DATABASE = "main"


@dataclass(frozen=True, slots=True)
class Zeo:
    """One ZEO server process.

    name: unique among the servers.  managed: whether the cluster's supervisor runs it.
    """

    name: str
    address: Address
    managed: bool
    configuration: Path
    log: Path
    pid_file: Path


@dataclass(frozen=True, slots=True)
class Storage:
    """One ZODB storage.

    id: unique in the cluster for ever, and its name on its ZEO server.  zeo: the name
    of that server.  aliases: ids it had before.  cache_size: objects in the memory of
    each connection.  client_cache_size: as "20MB".
    """

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
    """One Zope process; a [[zope]] with ``count = 2`` makes two.

    eggs: distributions it uses beside our own.
    """

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
    """The coherency daemon.

    burst_period, full_dump_period, alarm_after: in seconds.
    """

    host: str
    port: int
    configuration: Path
    tid_log: Path
    journal: Path
    log: Path
    pid_file: Path
    burst_period: int
    full_dump_period: int
    alarm_after: int = 60


@dataclass(frozen=True, slots=True)
class Backup:
    """Where backup sets are kept, and when they are taken.

    schedule: five crontab fields, or None.  jobs: storages that are copied at once.
    full_every: how old full copies may get; None: any age.  ping_url: fetched after a
    good backup.  ping_url_file: a file that holds it, where it is a secret.
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
    """Which backup sets are kept (`tidstorage.verbs.prune.retention`).

    schedule: when cron prunes: five crontab fields, or None.
    """

    keep_full: int = 2
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class Verify:
    """Which backup sets are verified, how deeply, and for how long at most.

    schedule: when cron verifies: five crontab fields, or None.  scratch: the folder
    to which sets are restored for it.
    """

    schedule: str | None = None
    sets: Literal["latest", "all"] = "latest"
    depth: Literal["sizes", "digests", "objects"] = "digests"
    time_budget: datetime.timedelta | None = None
    scratch: Path = Path("var/verify")


@dataclass(frozen=True, slots=True)
class Pack:
    """When storages are packed, and how many days of history a pack leaves.

    schedule: five crontab fields, or None.  keep_old: whether servers keep what a pack
    removes, beside the present files.
    """

    schedule: str | None = None
    keep_days: int = 7
    keep_old: bool = True


@dataclass(frozen=True, slots=True)
class Cluster:
    """All of a cluster.

    file: its cluster.toml.  directory: the folder of that file.  user: whom its
    processes run as; None: who starts them.  retired: ids of storages that are gone.
    time_zone: in which times are shown; None: the machine's.
    """

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
        """The storage with that id.

        Raises: KeyError: where there is none.
        """
        for storage in self.storages:
            if storage.id == storage_id:
                return storage
        raise KeyError(storage_id)

    def zeo(self, name: str) -> Zeo:
        """The ZEO server with that name.

        Raises: KeyError: where there is none.
        """
        for zeo in self.zeos:
            if zeo.name == name:
                return zeo
        raise KeyError(name)

    def storages_of(self, zeo_name: str) -> tuple[Storage, ...]:
        """The storages that one ZEO server serves, in the description's order."""
        return tuple(storage for storage in self.storages if storage.zeo == zeo_name)

    @property
    def aliases(self) -> dict[str, str]:
        """{old id: present id} of all storages."""
        return {old: storage.id for storage in self.storages for old in storage.aliases}

    def present_ids(self, vector: Mapping[str, Anything]) -> dict[str, Anything]:
        """A vector, or whatever else there is by storage id, under the present ids."""
        return rename_vector(vector, self.aliases)
