"""What the daemon is told: settings, and the file they come from.

The file is ZConfig (schema.xml, explained in docs/daemon.rst) or a Python file
as the original had it (`tidstorage.legacy.configuration`).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ZConfig

from tidstorage.errors import DescriptionError
from tidstorage.legacy import configuration as original
from tidstorage.system.address import Address, parse_address
from tidstorage.wire.protocol import DEFAULT_PORT

SCHEMA = Path(__file__).with_name("schema.xml")


@dataclass(frozen=True, slots=True)
class ObservedStorage:
    """A storage to observe.

    id: under which it is published.
    address, name: its ZEO server, and its name there.
    aliases: other ids that stamps may have for it.
    data_file: its Data.fs, where that is on this machine.
    """

    id: str
    address: Address
    name: str
    aliases: tuple[str, ...] = ()
    data_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the daemon is told, explained in docs/daemon.rst.

    Periods and timeouts are seconds, paths are absolute; the port 0 means any.
    """

    address: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    tid_log: Path | None = None
    journal: Path | None = None
    log: Path | None = None
    pid_file: Path | None = None
    burst_period: float = 1
    full_dump_period: float = 300
    transaction_timeout: float = 600
    resume_timeout: float = 30
    alarm_after: float = 60
    retired: frozenset[str] = frozenset()
    zopes: tuple[str, ...] = ()
    storages: tuple[ObservedStorage, ...] = ()
    foreground: bool = False
    user: str | None = None
    group: str | None = None

    @property
    def aliases(self) -> dict[str, str]:
        """{old id: id} of all storages."""
        return {
            alias: storage.id for storage in self.storages for alias in storage.aliases
        }

    @property
    def names(self) -> dict[str, str]:
        """{alias, or name on the ZEO server: id}, wherever that is another."""
        names = {
            storage.name: storage.id
            for storage in self.storages
            if storage.name != storage.id
        }
        return {**names, **self.aliases}


def load(path: Path) -> Settings:
    """Read a configuration file of either form.

    Raises: DescriptionError: where it cannot be read, or has mistakes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DescriptionError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DescriptionError(f"{path}: not a text in UTF-8: {error}") from error
    if original.is_original(text):
        return _from_original(original.parse(path, text))
    return _from_zconfig(path)


def _from_zconfig(path: Path) -> Settings:
    schema = ZConfig.loadSchema(str(SCHEMA))
    try:
        data, _ = ZConfig.loadConfig(schema, str(path))
    except ZConfig.ConfigurationError as error:
        raise DescriptionError(_message(path, error)) from error
    folder = path.absolute().parent
    storages = tuple(_with_folder(storage, folder) for storage in data.storages)
    _refuse_ambiguity(path, storages)
    return Settings(
        address=data.address,
        port=data.port,
        tid_log=_below(folder, data.status_file),
        journal=_below(folder, data.journal),
        log=_below(folder, data.log),
        pid_file=_below(folder, data.pid_file),
        burst_period=data.burst_period,
        full_dump_period=data.full_dump_period,
        transaction_timeout=data.transaction_timeout,
        resume_timeout=data.resume_timeout,
        alarm_after=data.alarm_after,
        retired=frozenset(data.retired),
        zopes=tuple(data.zopes),
        storages=storages,
    )


def _message(path: Path, error: ZConfig.ConfigurationError) -> str:
    line = getattr(error, "lineno", None)
    place = f"{path}, line {line}" if line and line > 0 else f"{path}"
    return f"{place}: {error.message}"


def storage_section(section: Any) -> ObservedStorage:
    """Datatype of a ``<storage ID>`` section.

    Raises: ValueError: where the server is no address; ZConfig adds the line.
    """
    name = section.getSectionName()
    return ObservedStorage(
        id=section.id or name,
        address=parse_address(section.server),
        name=section.storage or section.id or name,
        aliases=tuple(section.aliases),
        data_file=None if section.path is None else Path(section.path),
    )


def seconds(text: str) -> float:
    """Datatype of a period: a number that is not negative.

    Raises: ValueError: where it is none; ZConfig adds the line.
    """
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(f"expected seconds, 0 or more, found {text!r}")
    return value


def _with_folder(storage: ObservedStorage, folder: Path) -> ObservedStorage:
    if storage.data_file is None:
        return storage
    return replace(storage, data_file=folder / storage.data_file)


def _below(folder: Path, value: str | None) -> Path | None:
    return None if value is None else folder / value


def _refuse_ambiguity(path: Path, storages: tuple[ObservedStorage, ...]) -> None:
    known: set[str] = set()
    for storage in storages:
        for name in {storage.id, *storage.aliases}:
            if name in known:
                raise DescriptionError(
                    f"{path}: two storages are called {name!r}; every id and alias"
                    " has to be the only one of its name"
                )
            known.add(name)


def _from_original(old: original.Configuration) -> Settings:
    storages = tuple(
        ObservedStorage(
            id=storage.id,
            address=storage.address,
            name=storage.name,
            aliases=storage.aliases,
            data_file=storage.data_file,
        )
        for storage in old.storages
    )
    default = Settings()
    return Settings(
        address=old.text("address") or old.text("host") or default.address,
        port=int(old.number("port", default.port)),
        tid_log=old.file("status_file"),
        log=old.file("logfile_name"),
        pid_file=old.file("pidfile_name"),
        burst_period=old.number("burst_period", default.burst_period),
        full_dump_period=old.number("full_dump_period", default.full_dump_period),
        storages=storages,
        foreground=old.truth("fork") is False,
        user=old.text("setuid"),
        group=old.text("setgid"),
    )
