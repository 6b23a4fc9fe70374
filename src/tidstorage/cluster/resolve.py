"""Makes the cluster of a description: fills in defaults, makes paths absolute."""

from pathlib import Path

from tidstorage.cluster.cluster import (
    Backup,
    Cluster,
    Daemon,
    Pack,
    Retention,
    Storage,
    Verify,
    Zeo,
    Zope,
)
from tidstorage.cluster.model import Description, StorageSection, ZopeSection
from tidstorage.cluster.values import NEVER, duration
from tidstorage.system.address import split_address

DEFAULT_SERVER = "main"
FIRST_ZEO_PORT = 18101
FIRST_ZOPE_PORT = 18080
LOOPBACK = "127.0.0.1"


def zeo_addresses(description: Description) -> list[tuple[str, str]]:
    """(name, address as text) of every ZEO server, the default one too."""
    sections = [(zeo.name, zeo.address) for zeo in description.zeo]
    if not sections:
        sections = [(DEFAULT_SERVER, None)]
    return [
        (name, address or f"{LOOPBACK}:{FIRST_ZEO_PORT + number}")
        for number, (name, address) in enumerate(sections)
    ]


def server_of(storage: StorageSection, description: Description) -> str | None:
    """The name of a storage's server; None where it has to be said and is not."""
    if storage.zeo is not None:
        return storage.zeo
    names = [name for name, _ in zeo_addresses(description)]
    return names[0] if len(names) == 1 else None


def mount_point_of(storage: StorageSection) -> str:
    """The path at which Zope mounts a storage."""
    return storage.mount_point or f"/{storage.id}"


def zope_instances(
    description: Description,
) -> list[tuple[int, ZopeSection, str, tuple[str, int]]]:
    """(index of its section, section, name, (host, port)) of every Zope."""
    instances = []
    next_default = FIRST_ZOPE_PORT
    for index, section in enumerate(description.zope):
        if section.address is None:
            host, first = LOOPBACK, next_default
        else:
            address = split_address(section.address)
            assert isinstance(address, tuple)
            host, first = address
        next_default = first + section.count
        for number in range(section.count):
            name = section.name
            if section.count > 1:
                name = f"{name}-{number + 1}"
            instances.append((index, section, name, (host, first + number)))
    return instances


def data_file_of(storage: StorageSection, directory: Path) -> Path:
    """The path of a storage's Data.fs, absolute."""
    return directory / (storage.path or f"var/storage/{storage.id}/Data.fs")


def blob_directory_of(storage: StorageSection, directory: Path) -> Path | None:
    """The folder of a storage's blobs, absolute; None where it keeps none."""
    if not storage.blobs and storage.blob_dir is None:
        return None
    return directory / (storage.blob_dir or f"var/storage/{storage.id}/blobs")


def resolve(description: Description, file: Path) -> Cluster:
    """The cluster of a description in which no mistake was found."""
    directory = file.parent
    etc = directory / "etc"
    log = directory / "var/log"
    run = directory / "var/run"
    return Cluster(
        name=description.cluster.name,
        file=file,
        directory=directory,
        user=description.cluster.user,
        time_zone=description.cluster.time_zone,
        zeos=tuple(
            Zeo(
                name=name,
                address=_absolute_address(address, directory),
                managed=True,
                configuration=etc / f"zeo-{name}.conf",
                log=log / f"zeo-{name}.log",
                pid_file=run / f"zeo-{name}.pid",
            )
            for name, address in zeo_addresses(description)
        ),
        storages=tuple(
            _storage(section, description, directory) for section in description.storage
        ),
        retired=frozenset(section.id for section in description.retired_storage),
        zopes=tuple(
            _zope(section, name, address, directory)
            for _, section, name, address in zope_instances(description)
        ),
        daemon=_daemon(description, directory),
        backup=_backup(description, directory),
        bin_directory=directory / "bin",
        etc_directory=etc,
        log_directory=log,
        run_directory=run,
        supervisor_configuration=etc / "supervisord.conf",
        supervisor_socket=run / "supervisor.sock",
        retention=_retention(description),
        verify=_verify(description, directory),
        pack=Pack(
            _schedule(description.pack.schedule),
            description.pack.keep_days,
            description.pack.keep_old,
        ),
    )


def _schedule(text: str) -> str | None:
    return None if text == NEVER else text


def _retention(description: Description) -> Retention:
    section = description.retention
    return Retention(
        section.keep_full,
        section.keep_daily,
        section.keep_weekly,
        section.keep_monthly,
        _schedule(section.schedule),
    )


def _verify(description: Description, directory: Path) -> Verify:
    section = description.verify
    budget = section.time_budget
    return Verify(
        _schedule(section.schedule),
        section.sets,
        section.depth,
        None if budget is None else duration(budget),
        directory / section.scratch,
    )


def _backup(description: Description, directory: Path) -> Backup:
    section = description.backup
    ping_url_file = section.ping_url_file
    return Backup(
        directory=directory / section.directory,
        schedule=_schedule(section.schedule),
        jobs=section.jobs,
        compress=section.compression == "gzip",
        pre_command=section.pre_command,
        post_command=section.post_command,
        full_every=(
            None if section.full_every == NEVER else duration(section.full_every)
        ),
        ping_url=section.ping_url,
        ping_url_file=None if ping_url_file is None else directory / ping_url_file,
    )


def _absolute_address(text: str, directory: Path) -> tuple[str, int] | str:
    address = split_address(text)
    return address if isinstance(address, tuple) else str(directory / address)


def _storage(
    section: StorageSection, description: Description, directory: Path
) -> Storage:
    server = server_of(section, description)
    assert server is not None
    return Storage(
        id=section.id,
        zeo=server,
        mount_point=mount_point_of(section),
        data_file=data_file_of(section, directory),
        blob_directory=blob_directory_of(section, directory),
        aliases=tuple(section.aliases),
        cache_size=section.cache_size,
        client_cache_size=section.client_cache_size,
    )


def _zope(
    section: ZopeSection, name: str, address: tuple[str, int], directory: Path
) -> Zope:
    etc, log = directory / "etc", directory / "var/log"
    return Zope(
        name=name,
        host=address[0],
        port=address[1],
        threads=section.threads,
        managed=True,
        eggs=tuple(section.eggs),
        environment=dict(section.environment),
        zope_conf_additional=section.zope_conf_additional,
        cache_directory=directory / "var/cache" / name,
        configuration=etc / f"zope-{name}.conf",
        wsgi_configuration=etc / f"zope-{name}.ini",
        log=log / f"zope-{name}.log",
        pid_file=directory / "var/run" / f"zope-{name}.pid",
    )


def _daemon(description: Description, directory: Path) -> Daemon:
    address = split_address(description.tidstorage.address)
    assert isinstance(address, tuple)
    return Daemon(
        host=address[0],
        port=address[1],
        configuration=directory / "etc/tidstorage.conf",
        tid_log=directory / "var/tidstorage/tidlog",
        journal=directory / "var/tidstorage/journal",
        log=directory / "var/log/tidstorage.log",
        pid_file=directory / "var/run/tidstorage.pid",
        burst_period=description.tidstorage.burst_period,
        full_dump_period=description.tidstorage.full_dump_period,
        alarm_after=description.tidstorage.alarm_after,
    )
