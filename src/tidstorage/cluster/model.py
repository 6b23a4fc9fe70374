"""The model of cluster.toml: every key, its type, default and meaning.

The JSON Schema in docs/cluster.schema.json is generated from these classes.
Values have TOML's own types, so that nothing is converted on the way: "2" is
no number here.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from tidstorage.cluster import values

#: The type of the pydantic error that a reserved key raises.
RESERVED = "reserved"


def _refuse_reserved(value: object) -> object:
    raise PydanticCustomError(RESERVED, "reserved: not supported yet")


_RESERVED_SCHEMA = WithJsonSchema(
    {"not": {}, "description": "Reserved: not supported yet."}
)
#: A key of a later version: known, so that nobody uses it for something else.
Reserved = Annotated[Any, BeforeValidator(_refuse_reserved), _RESERVED_SCHEMA]


def is_reserved(field: FieldInfo) -> bool:
    """Whether a field of a section is a reserved key."""
    return _RESERVED_SCHEMA in field.metadata


def _reserve_false(value: object) -> object:
    return _refuse_reserved(value) if value is False else value


def _reserve_systemd(value: object) -> object:
    return _refuse_reserved(value) if value == "systemd" else value


Managed = Annotated[
    Literal[True],
    BeforeValidator(_reserve_false),
    Field(description="Whether this runs it; false is not supported yet."),
]
Supervision = Annotated[Literal["supervisor"], BeforeValidator(_reserve_systemd)]


Name = Annotated[str, values.NAME]
StorageId = Annotated[str, values.STORAGE_ID]
NetworkAddress = Annotated[str, values.NETWORK_ADDRESS]
ServerAddress = Annotated[str, values.SERVER_ADDRESS]
MountPoint = Annotated[str, values.MOUNT_POINT]
FilePath = Annotated[str, values.PATH]
Schedule = Annotated[str, values.SCHEDULE]
Size = Annotated[str, values.SIZE]
TimeBudget = Annotated[str, values.TIME_BUDGET]
TimeZone = Annotated[str, values.TIME_ZONE]
Line = Annotated[str, values.LINE]
DurationOrNever = Annotated[str, values.DURATION_OR_NEVER]
Url = Annotated[str, values.URL]
EnvironmentName = Annotated[str, values.ENVIRONMENT_NAME]


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
    """[cluster]: the whole."""

    name: Name = Field("cluster", description="How messages call this cluster.")
    user: Name | None = Field(
        None,
        description="The user all processes run as, when root starts them.",
    )
    supervision: Supervision = Field(
        "supervisor", description="What keeps the processes running."
    )
    time_zone: TimeZone | None = Field(
        None,
        description="Times are shown and typed in it; default: the machine's own.",
    )


class ZeoSection(Section):
    """[[zeo]]: one ZEO server process."""

    name: Name = Field(description="Unique among the servers.")
    address: ServerAddress | None = Field(
        None,
        description="HOST:PORT, or the path of a unix socket; default: "
        "127.0.0.1:18101 for the first server, 18102 for the second...",
    )
    managed: Managed = True
    host: Reserved = None
    port: Reserved = None


class StorageSection(Section):
    """[[storage]]: one ZODB storage on one of the servers."""

    id: StorageId = Field(
        description="Unique in the cluster, for ever; also its name on its server."
    )
    zeo: Name | None = Field(
        None, description="Its server; may be left out where there is only one."
    )
    mount_point: MountPoint | None = Field(
        None,
        description='Where Zope mounts it; "/" is the root database; '
        'default: "/" and the id.',
    )
    path: FilePath | None = Field(
        None, description="Its file; default: var/storage/ID/Data.fs."
    )
    blobs: bool = Field(False, description="Whether it keeps blobs.")
    blob_dir: FilePath | None = Field(
        None, description="Where it keeps them; default: var/storage/ID/blobs."
    )
    cache_size: int = Field(
        30_000, ge=0, description="Objects in memory, for each connection of a Zope."
    )
    client_cache_size: Size = Field(
        "20MB", description="The cache file of each Zope: a number with KB, MB or GB."
    )
    aliases: list[Line] = Field(
        [],
        description="Ids it had before; old JSON ids are aliases too. The defaults of"
        " path, blob-dir and mount-point go with the id: give those it had.",
    )
    blob_access: Reserved = None


class RetiredStorageSection(Section):
    """[[retired-storage]]: one that is gone, but that old stamps still name."""

    id: StorageId


class ZopeSection(Section):
    """[[zope]]: one or more Zope processes."""

    name: Name = Field(description="Unique; with a count: NAME-1, NAME-2...")
    address: NetworkAddress | None = Field(
        None,
        description="HOST:PORT of the first, the others follow; default: "
        "127.0.0.1:18080 and the ports after it.",
    )
    count: int = Field(1, ge=1, le=1000, description="How many processes.")
    threads: int = Field(2, ge=1, le=1000, description="Threads of each process.")
    eggs: list[Line] = Field(
        [], description="Distributions the Zopes use beside our own."
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
    host: Reserved = None
    port: Reserved = None
    status_port: Reserved = None


class BackupSection(Section):
    """[backup]: where the sets go, and when."""

    directory: FilePath = Field("var/backup", description="Where the sets are kept.")
    schedule: Schedule = Field(
        "15 2 * * *",
        description='When cron takes one: five crontab fields, or "never".',
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
        description="A shell command after each backup, good or not, that pre-command"
        " let begin: TIDSTORAGE_RESULT tells (docs/backup.rst).",
    )
    full_every: DurationOrNever = Field(
        "28d",
        description="How old the full copies may get that the others build on, before"
        ' all are made anew: a number with h, d or w, or "never".',
    )
    ping_url: Url | None = Field(
        None,
        description="Fetched after each good backup, and only then, so that whoever"
        " expects it can tell of silence.",
    )
    ping_url_file: FilePath | None = Field(
        None, description="A file that holds ping-url, where that is a secret."
    )
    host: Reserved = None


class RetentionSection(Section):
    """[retention]: which sets are kept."""

    keep_full: int = Field(
        2,
        ge=1,
        description="Full sets to keep, the newest, and every set since the oldest of"
        " them.",
    )
    keep_daily: int = Field(
        0,
        ge=0,
        description="Of older sets: the last of each of so many days that have one.",
    )
    keep_weekly: int = Field(0, ge=0, description="The same by weeks, from Monday.")
    keep_monthly: int = Field(0, ge=0, description="The same by months.")
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
        "latest", description="Which sets, where the command line names none."
    )
    depth: Literal["sizes", "digests", "objects"] = Field(
        "digests",
        description="How deeply: sizes of files; every byte of files and blobs; or a"
        " restore to scratch with every object read and every reference followed.",
    )
    time_budget: TimeBudget | None = Field(
        None,
        description="When to end, a number with m, h or d: the next run goes on there."
        " Default: when all is verified.",
    )
    scratch: FilePath = Field(
        "var/verify",
        description="Where depth objects restores to, and removes it again: as large"
        " as all storages, without blobs.",
    )


class PackSection(Section):
    """[pack]: how and when the storages are packed."""

    schedule: Schedule = Field(
        values.NEVER,
        description='When cron packs: five crontab fields, or "never".',
    )
    keep_days: int = Field(
        7, ge=0, le=36_500, description="Days of history that a pack leaves."
    )


class Description(Section):
    """A whole cluster.toml."""

    cluster: ClusterSection = ClusterSection()
    zeo: list[ZeoSection] = Field(
        [], description='Default: one server, "main", where there is a storage.'
    )
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
