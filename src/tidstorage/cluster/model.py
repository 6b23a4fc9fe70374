"""The model of cluster.toml: every key, its type, default and meaning.

The JSON Schema in docs/cluster.schema.json is generated from these classes.
Values have TOML's own types, so that nothing is converted on the way: "2" is
no number here.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tidstorage.cluster import values
from tidstorage.cluster.fields import (
    DurationOrNever,
    EnvironmentName,
    FilePath,
    Line,
    Managed,
    MountPoint,
    Name,
    NetworkAddress,
    Reserved,
    Schedule,
    ServerAddress,
    Size,
    StorageId,
    Supervision,
    TimeBudget,
    TimeZone,
    Url,
)


def _hyphenated(name: str) -> str:
    return name.replace("_", "-")


class Section(BaseModel):
    """What all tables of the description have in common."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=_hyphenated,
    )


class ClusterSection(Section):
    """[cluster]: the cluster as a whole."""

    name: Name = Field("cluster", description="The name of the cluster in messages.")
    user: Name | None = Field(
        None,
        description="The user that all processes run as, where root starts them.",
    )
    supervision: Supervision = Field(
        "supervisor", description="The program that keeps the processes running."
    )
    time_zone: TimeZone | None = Field(
        None,
        description="The time zone in which times are shown and typed; default: that of"
        " the machine.",
    )


class ZeoSection(Section):
    """[[zeo]]: one ZEO server process."""

    name: Name = Field(description="Unique among the servers.")
    address: ServerAddress | None = Field(
        None,
        description="HOST:PORT, or the path of a unix socket; default: "
        "127.0.0.1:18101 for the first server, 18102 for the second, and so on.",
    )
    managed: Managed = True
    host: Reserved = None
    port: Reserved = None


class StorageSection(Section):
    """[[storage]]: one ZODB storage on one of the servers."""

    id: StorageId = Field(
        description="Its name for ever, unique in the cluster; also its name on its"
        " server."
    )
    zeo: Name | None = Field(
        None,
        description="The name of its ZEO server; may be left out where there is only"
        " one.",
    )
    mount_point: MountPoint | None = Field(
        None,
        description='Where Zope mounts it; "/" is the root database; '
        'default: "/" followed by the id.',
    )
    path: FilePath | None = Field(
        None, description="Its file; default: var/storage/ID/Data.fs."
    )
    blobs: bool = Field(False, description="Whether it has blobs.")
    blob_dir: FilePath | None = Field(
        None, description="The folder of its blobs; default: var/storage/ID/blobs."
    )
    cache_size: int = Field(
        30_000,
        ge=0,
        description="Objects that each connection of a Zope keeps in memory.",
    )
    client_cache_size: Size = Field(
        "20MB",
        description="The size of each Zope's cache file: a number with KB, MB or GB.",
    )
    aliases: list[Line] = Field(
        [],
        description="Ids that it had before; ids of TIDStorage 5 (JSON) are aliases"
        " too. The defaults of path, blob-dir and mount-point depend on the id: where"
        " the id changes, write down those it had.",
    )
    blob_access: Reserved = None


class RetiredStorageSection(Section):
    """[[retired-storage]]: a storage that is gone, but that old stamps still name."""

    id: StorageId


class ZopeSection(Section):
    """[[zope]]: one or more Zope processes."""

    name: Name = Field(
        description="Unique among the Zopes; with a count the names are NAME-1,"
        " NAME-2, and so on."
    )
    address: NetworkAddress | None = Field(
        None,
        description="HOST:PORT of the first one, the others have the next ports;"
        " default: 127.0.0.1:18080 and the next ports.",
    )
    count: int = Field(1, ge=1, le=1000, description="How many processes.")
    threads: int = Field(2, ge=1, le=1000, description="Threads of each process.")
    eggs: list[Line] = Field(
        [], description="Distributions that the Zopes use, besides TIDStorage."
    )
    environment: dict[EnvironmentName, Line] = Field(
        {}, description="Environment variables of the processes."
    )
    zope_conf_additional: str = Field("", description="Lines for the end of zope.conf.")
    managed: Managed = True
    host: Reserved = None
    port: Reserved = None


class DaemonSection(Section):
    """[tidstorage]: the coherency daemon."""

    address: NetworkAddress = Field("127.0.0.1:18100", description="HOST:PORT.")
    burst_period: int = Field(
        30, ge=0, description="Seconds between two points in the TID log."
    )
    full_dump_period: int = Field(
        300, ge=0, description="Seconds between two full lines in the TID log."
    )
    alarm_after: int = Field(
        60,
        ge=1,
        description="Seconds after which a point that is behind, a storage that nobody"
        " observes or that stays locked is an alarm in log and status.",
    )
    host: Reserved = None
    port: Reserved = None
    status_port: Reserved = None


class BackupSection(Section):
    """[backup]: where backup sets are kept, and when they are taken."""

    directory: FilePath = Field(
        "var/backup", description="The folder of the backup sets."
    )
    schedule: Schedule = Field(
        "15 2 * * *",
        description='When cron takes a backup: five crontab fields, or "never".',
    )
    jobs: int = Field(
        2, ge=1, le=64, description="Storages that are copied at the same time."
    )
    compression: Literal["gzip", "none"] = Field(
        "gzip", description="How repozo's files are compressed."
    )
    pre_command: Line | None = Field(
        None, description="A shell command before each backup; it must succeed."
    )
    post_command: Line | None = Field(
        None,
        description="A shell command after each backup, good or not, for which"
        " pre-command succeeded; TIDSTORAGE_RESULT tells how it ended"
        " (docs/backup.rst).",
    )
    full_every: DurationOrNever = Field(
        "28d",
        description="The age of full copies after which all are made again: a number"
        ' with h, d or w, or "never".',
    )
    ping_url: Url | None = Field(
        None,
        description="An address that is fetched after each good backup, and only then:"
        " a monitor there can alert where nothing comes.",
    )
    ping_url_file: FilePath | None = Field(
        None,
        description="A file that holds the address of ping-url, where it is a secret.",
    )
    host: Reserved = None


class RetentionSection(Section):
    """[retention]: which backup sets are kept."""

    keep_full: int = Field(
        2,
        ge=1,
        description="How many full sets to keep; every set since the oldest of them is"
        " kept too.",
    )
    keep_daily: int = Field(
        0,
        ge=0,
        description="Of older sets, the last one of a day is kept, for so many days"
        " that have one.",
    )
    keep_weekly: int = Field(
        0, ge=0, description="The same for weeks, which begin on Monday."
    )
    keep_monthly: int = Field(0, ge=0, description="The same for months.")
    schedule: Schedule = Field(
        values.NEVER,
        description='When cron prunes: five crontab fields, or "never".',
    )


class VerifySection(Section):
    """[verify]: how and when sets are read back."""

    schedule: Schedule = Field(
        "15 6 * * 0",
        description='When cron verifies: five crontab fields, or "never".',
    )
    sets: Literal["latest", "all"] = Field(
        "latest",
        description="Which sets are verified, where the command line names none.",
    )
    depth: Literal["sizes", "digests", "objects"] = Field(
        "digests",
        description="How deeply: sizes compares the sizes of files; digests reads"
        " every byte of files and blobs; objects restores the set to a scratch folder,"
        " reads every object and follows every reference.",
    )
    time_budget: TimeBudget | None = Field(
        None,
        description="How long a run may take, a number with m, h or d; the next run"
        " goes on where it ended. Default: until everything is verified.",
    )
    scratch: FilePath = Field(
        "var/verify",
        description="The folder to which depth objects restores a set, and where it is"
        " removed again; needs the room of all storages, without blobs.",
    )


class PackSection(Section):
    """[pack]: when the storages are packed, and how much history is left."""

    schedule: Schedule = Field(
        values.NEVER,
        description='When cron packs: five crontab fields, or "never".',
    )
    keep_days: int = Field(
        7, ge=0, le=36_500, description="How many days of history a pack leaves."
    )
    keep_old: bool = Field(
        True,
        description="Whether servers keep what a pack removes, as Data.fs.old and"
        " blobs.old beside the present files. Where a blob directory is a mount, or has"
        " mounts or links in it, they cannot, and a pack is refused until this is false"
        " (the backup that a pack begins with keeps it all the same).",
    )


class Description(Section):
    """A whole cluster.toml."""

    cluster: ClusterSection = ClusterSection()
    zeo: list[ZeoSection] = Field([], description='Default: one server, "main".')
    storage: list[StorageSection] = Field(description="At least the root database.")
    retired_storage: list[RetiredStorageSection] = []
    zope: list[ZopeSection] = []
    tidstorage: DaemonSection = DaemonSection()
    backup: BackupSection = BackupSection()
    retention: RetentionSection = RetentionSection()
    verify: VerifySection = VerifySection()
    pack: PackSection = PackSection()
    host: Reserved = None
    tls: Reserved = None


#: {name of an array table: its model}
ARRAY_TABLES: dict[str, type[Section]] = {
    "zeo": ZeoSection,
    "storage": StorageSection,
    "retired-storage": RetiredStorageSection,
    "zope": ZopeSection,
}

#: {name of a table that is there once: its model}
TABLES: dict[str, type[Section]] = {
    "cluster": ClusterSection,
    "tidstorage": DaemonSection,
    "backup": BackupSection,
    "retention": RetentionSection,
    "verify": VerifySection,
    "pack": PackSection,
}
