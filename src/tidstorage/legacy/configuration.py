"""Configuration files of the original: Python files, of which only literals count.

They are parsed, never executed: every statement has to assign a literal to a name.
Relative paths are below the file's own folder.
"""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidstorage.errors import DescriptionError
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
class Configuration:
    """The assignments of a file; the methods check what type they have."""

    path: Path
    values: dict[str, Any]
    lines: dict[str, int]
    storages: tuple[OriginalStorage, ...]
    crashed_files: tuple[CrashedFile, ...]

    def text(self, key: str) -> str | None:
        """None also where it is absent."""
        value = self.values.get(key)
        if isinstance(value, int) and key in ("setuid", "setgid"):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise self._error(key, "a string")
        return value or None

    def file(self, key: str) -> Path | None:
        """A path, absolute; None where it is absent."""
        text = self.text(key)
        return None if text is None else self.path.absolute().parent / text

    def number(self, key: str, default: float) -> float:
        value = self.values.get(key, default)
        if isinstance(value, str) and value.isdigit():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise self._error(key, "a number, 0 or more")
        return value

    def truth(self, key: str) -> bool | None:
        value = self.values.get(key)
        if value is not None and value not in (0, 1):
            raise self._error(key, "True or False")
        return None if value is None else bool(value)

    def _error(self, key: str, expected: str) -> DescriptionError:
        found = self.values[key]
        return DescriptionError(
            f"{self.path}, line {self.lines[key]}: {key}: expected {expected},"
            f" found {found!r}"
        )


def load(path: Path) -> Configuration:
    """The configuration in a file; DescriptionError where it is none."""
    try:
        return parse(path, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DescriptionError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DescriptionError(f"{path}: not a text in UTF-8: {error}") from error


def is_original(text: str) -> bool:
    """ZConfig has no ``key =`` lines that start with one of the old names."""
    return any(name in _KEYS for name in _ASSIGNMENT.findall(text))


def parse(path: Path, text: str) -> Configuration:
    """DescriptionError for anything but assignments of literals."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise DescriptionError(
            f"{path}, line {line}: expected assignments of literals, found no"
            f" Python: {error}"
        ) from error
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for statement in module.body:
        for name, value in _assigned(path, statement):
            values[name] = value
            lines[name] = statement.lineno
    return Configuration(
        path,
        values,
        lines,
        _storages(path, values, lines),
        _crashed_files(path, values, lines),
    )


def _assigned(path: Path, statement: ast.stmt) -> list[tuple[str, Any]]:
    match statement:
        case ast.Expr(ast.Constant(str())):
            return []
        case ast.Assign(targets, value) if all(
            isinstance(each, ast.Name) for each in targets
        ):
            try:
                literal = ast.literal_eval(value)
            except ValueError:
                pass
            else:
                return [(each.id, literal) for each in targets]  # type: ignore[attr-defined]
    raise DescriptionError(
        f"{path}, line {statement.lineno}: expected the assignment of a literal,"
        f" found: {ast.unparse(statement).splitlines()[0]}",
        "The file is read, never executed: write the value itself.",
    )


def _storages(
    path: Path, values: dict[str, Any], lines: dict[str, int]
) -> tuple[OriginalStorage, ...]:
    key = "known_tid_storage_identifier_dict"
    known = _dict(path, values, lines, key)
    parsed = {}
    for identifier in known:
        found = parse_identifier(identifier)
        if found is None:
            raise DescriptionError(
                f"{path}, line {lines[key]}: {key}: expected an identifier such as"
                ' \'[[["127.0.0.1", 8100]], "root"]\', found '
                f"{identifier!r}"
            )
        parsed[identifier] = found
    aliases = _aliases(parsed)
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


def _dict(
    path: Path, values: dict[str, Any], lines: dict[str, int], key: str
) -> dict[Any, Any]:
    found = values.get(key, {})
    if not isinstance(found, dict):
        raise DescriptionError(
            f"{path}, line {lines[key]}: {key}: expected a dict, found {found!r}"
        )
    return found


def _aliases(
    parsed: Mapping[str, tuple[Address, str]],
) -> dict[str, tuple[str, ...]]:
    """{id: its storage's name}: stamps have that, which helps where it is unique."""
    names = [name for _, name in parsed.values()]
    return {
        identifier: (name,) if names.count(name) == 1 and name != identifier else ()
        for identifier, (_, name) in parsed.items()
    }


def _crashed_files(
    path: Path, values: dict[str, Any], lines: dict[str, int]
) -> tuple[CrashedFile, ...]:
    key = "data_fs_backup_path_dict"
    known = _dict(path, values, lines, key)
    # An id that is none of the usual ones is no mistake here.
    parsed = {each: parse_identifier(each) or ("", str(each)) for each in known}
    aliases = _aliases(parsed)
    found = []
    for identifier, value in known.items():
        data_file, backup = _path_in(value, 0), _path_in(value, 1)
        if data_file is None or backup is None or not isinstance(identifier, str):
            raise DescriptionError(
                f"{path}, line {lines[key]}: {key}: expected for each storage id the"
                f" absolute paths of its Data.fs and of a copy, found {identifier!r}:"
                f" {value!r}"
            )
        found.append(CrashedFile(identifier, aliases[identifier], data_file, backup))
    return tuple(found)


def _path_in(value: Any, index: int) -> Path | None:
    """An absolute path in a tuple; the first one may stand alone."""
    parts = value if isinstance(value, tuple | list) else (value,)
    text = parts[index] if index < len(parts) else None
    return Path(text) if isinstance(text, str) and text.startswith("/") else None


def parse_identifier(identifier: Any) -> tuple[Address, str] | None:
    """The address and the storage name in an old id; None where it is none.

    Both spellings: JSON, and the repr of Python tuples.
    """
    try:
        addresses, name = _literal(identifier)
        (address, *_) = addresses
        if isinstance(address, str):
            return address, str(name)
        host, port = address
        return (str(host), int(port)), str(name)
    except (ValueError, TypeError, SyntaxError):
        return None


def _literal(identifier: Any) -> Any:
    if not isinstance(identifier, str):
        return identifier
    try:
        return json.loads(identifier)
    except ValueError:
        return ast.literal_eval(identifier)
