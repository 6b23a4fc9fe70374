"""The original's configuration files: which storages they name, and where."""

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidstorage.errors import DescriptionError
from tidstorage.legacy import assignments
from tidstorage.legacy.assignments import Assignments
from tidstorage.system.address import Address

#: Names of which one is enough to tell an old file.
_KEYS = frozenset(
    {
        "address",
        "base_url",
        "burst_period",
        "data_fs_backup_path_dict",
        "fork",
        "full_dump_period",
        "host",
        "keep_full_backup_count",
        "known_tid_storage_identifier_dict",
        "logfile_name",
        "pidfile_name",
        "port",
        "setgid",
        "setuid",
        "status_file",
        "status_file_backup_dir",
        "timestamp_file_path",
    }
)
_ASSIGNMENT = re.compile(r"^(\w+)[ \t]*=", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class OriginalStorage:
    """One entry of ``known_tid_storage_identifier_dict``.

    id: as the configuration writes it, which old tools look up.  name: on its ZEO
    server.  aliases: under which stamps may name it.  repository: repozo's.
    """

    id: str
    address: Address
    name: str
    aliases: tuple[str, ...]
    data_file: Path | None
    repository: Path | None


@dataclass(frozen=True, slots=True)
class CrashedFile:
    """One entry of ``data_fs_backup_path_dict``.

    backup: where the administrator has room for what is taken out of the file.
    """

    id: str
    aliases: tuple[str, ...]
    data_file: Path
    backup: Path


@dataclass(frozen=True, slots=True)
class Configuration(Assignments):
    """A configuration file; the storages are read already, the rest by its methods."""

    storages: tuple[OriginalStorage, ...]
    crashed_files: tuple[CrashedFile, ...]


def load(path: Path) -> Configuration:
    """The configuration in a file.

    Raises: DescriptionError: where the file cannot be read, or is none.
    """
    try:
        return parse(path, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DescriptionError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DescriptionError(f"{path}: not a text in UTF-8: {error}") from error


def is_original(text: str) -> bool:
    """Whether a text is the original's configuration: it assigns to one of its names.

    ZConfig has no ``key =`` lines that begin with one of them.
    """
    return any(name in _KEYS for name in _ASSIGNMENT.findall(text))


def parse(path: Path, text: str) -> Configuration:
    """The configuration in a text; ``path`` is for messages and relative paths.

    Raises: DescriptionError: for anything but assignments of literals, and where a
    storage is described by anything else than an id and paths.
    """
    given = assignments.parse(path, text)
    return Configuration(
        given.path,
        given.values,
        given.lines,
        _read_storages(given),
        _read_crashed_files(given),
    )


def _read_storages(given: Assignments) -> tuple[OriginalStorage, ...]:
    key = "known_tid_storage_identifier_dict"
    known = given.mapping(key)
    parsed = {}
    for identifier in known:
        address_and_name = parse_identifier(identifier)
        if address_and_name is None:
            raise DescriptionError(
                f"{given.place(key)}: expected an identifier such as"
                f' \'[[["127.0.0.1", 8100]], "root"]\', found {identifier!r}'
            )
        parsed[identifier] = address_and_name
    aliases = _find_aliases(
        (identifier, name) for identifier, (_, name) in parsed.items()
    )
    return tuple(
        OriginalStorage(
            identifier,
            address,
            name,
            aliases[identifier],
            _path_in(known[identifier], 0),
            _path_in(known[identifier], 1),
        )
        for identifier, (address, name) in parsed.items()
    )


def _read_crashed_files(given: Assignments) -> tuple[CrashedFile, ...]:
    key = "data_fs_backup_path_dict"
    known = given.mapping(key)
    names = []
    for identifier in known:
        # An id that is none of the usual ones is no mistake here.
        _, name = parse_identifier(identifier) or ("", str(identifier))
        names.append((identifier, name))
    aliases = _find_aliases(names)
    files = []
    for identifier, value in known.items():
        data_file, backup = _path_in(value, 0), _path_in(value, 1)
        if data_file is None or backup is None or not isinstance(identifier, str):
            raise DescriptionError(
                f"{given.place(key)}: expected for each storage id the absolute paths"
                f" of its Data.fs and of a copy, found {identifier!r}: {value!r}"
            )
        files.append(CrashedFile(identifier, aliases[identifier], data_file, backup))
    return tuple(files)


def _find_aliases(ids: Iterable[tuple[Any, str]]) -> Mapping[Any, tuple[str, ...]]:
    """{id: its storage's name}: stamps have that, which helps where it is unique."""
    pairs = list(ids)
    names = [name for _, name in pairs]
    return {
        identifier: (name,) if names.count(name) == 1 and name != identifier else ()
        for identifier, name in pairs
    }


def _path_in(value: Any, index: int) -> Path | None:
    """An absolute path in a tuple; the first one may stand alone."""
    fields = value if isinstance(value, tuple | list) else (value,)
    text = fields[index] if index < len(fields) else None
    return Path(text) if isinstance(text, str) and text.startswith("/") else None


def parse_identifier(identifier: Any) -> tuple[Address, str] | None:
    """The address and the storage name in an old id; None where it is none.

    Both spellings are understood: JSON, and the repr of Python tuples.
    """
    try:
        addresses, name = _read_literal(identifier)
        (address, *_) = addresses
        if isinstance(address, str):
            return address, str(name)
        host, port = address
        return (str(host), int(port)), str(name)
    except (ValueError, TypeError, SyntaxError):
        return None


def _read_literal(identifier: Any) -> Any:
    if not isinstance(identifier, str):
        return identifier
    try:
        return json.loads(identifier)
    except ValueError:
        return ast.literal_eval(identifier)
