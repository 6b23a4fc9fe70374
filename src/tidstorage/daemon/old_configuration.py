"""Configuration files of the original: Python files, of which only literals count.

They are parsed, never executed: every statement has to assign a literal to a name.
"""

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidstorage.cluster import Address
from tidstorage.errors import DescriptionError

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
class OldStorage:
    """``id`` as the configuration writes it, which old tools look up."""

    id: str
    address: Address
    name: str
    data_file: Path | None


@dataclass(frozen=True, slots=True)
class OldConfiguration:
    """The assignments of a file; the methods check what type they have."""

    path: Path
    values: dict[str, Any]
    lines: dict[str, int]
    storages: tuple[OldStorage, ...]

    def text(self, key: str) -> str | None:
        """None also where it is absent."""
        value = self.values.get(key)
        if isinstance(value, int) and key in ("setuid", "setgid"):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise self._error(key, "a string")
        return value or None

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


def is_old(text: str) -> bool:
    """ZConfig has no ``key =`` lines that start with one of the old names."""
    return any(name in _KEYS for name in _ASSIGNMENT.findall(text))


def parse(path: Path, text: str) -> OldConfiguration:
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
    return OldConfiguration(path, values, lines, _storages(path, values, lines))


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
) -> tuple[OldStorage, ...]:
    key = "known_tid_storage_identifier_dict"
    known = values.get(key, {})
    if not isinstance(known, dict):
        raise DescriptionError(
            f"{path}, line {lines[key]}: {key}: expected a dict, found {known!r}"
        )
    storages = []
    for identifier, value in known.items():
        parsed = parse_identifier(identifier)
        if parsed is None:
            raise DescriptionError(
                f"{path}, line {lines[key]}: {key}: expected an identifier such as"
                ' \'[[["127.0.0.1", 8100]], "root"]\', found '
                f"{identifier!r}"
            )
        address, name = parsed
        storages.append(OldStorage(identifier, address, name, _data_file(value)))
    return tuple(storages)


def _data_file(value: Any) -> Path | None:
    first = value[0] if isinstance(value, tuple | list) and value else value
    if isinstance(first, str) and first.startswith("/"):
        return Path(first)
    return None


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
