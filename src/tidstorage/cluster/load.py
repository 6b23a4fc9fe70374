"""Reads a cluster.toml: the result is the cluster, or all mistakes at once."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tidstorage.cluster import checks, mistakes, model, values
from tidstorage.cluster.cluster import Cluster
from tidstorage.cluster.mistakes import Mistake
from tidstorage.cluster.resolve import resolve
from tidstorage.errors import DescriptionError


def load_cluster(path: Path) -> Cluster:
    """The cluster that a cluster.toml describes; nothing on disk is changed.

    Raises: DescriptionError: lists every mistake with its place, what was expected and
      what was found.
    """
    path = path.absolute()
    _refuse_folder(path.parent)
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DescriptionError(f"{path} is not TOML: {error}") from error
    if not data:
        raise DescriptionError(
            f"{path} is empty",
            "It needs at least one [[storage]]; cluster.default.toml is an example.",
        )
    reading = _Reading()
    description = reading.parse(data)
    unreadable = checks.Unreadable(
        reading.unreadable_tables,
        _unreadable_servers(data, description),
        _may_hide_root(data, reading.mistakes),
    )
    for mistake in checks.check(description, path.parent, unreadable):
        reading.mistakes.append(reading.in_file(mistake))
    if reading.mistakes:
        raise DescriptionError(mistakes.report(path, reading.mistakes, text))
    return resolve(description, path)


def _refuse_folder(folder: Path) -> None:
    """The folder's name goes into every generated file and the crontab."""
    if re.fullmatch(values.PATH.pattern, str(folder)) is None:
        raise DescriptionError(
            f"the cluster's folder is {str(folder)!r}: expected {values.PATH.expected}",
            "Move the folder to a path without them.",
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DescriptionError(
            f"{path}: {error.strerror}",
            "Name the description with --cluster-file, or run this in its folder.",
        ) from error
    except UnicodeDecodeError as error:
        raise DescriptionError(f"{path} is not UTF-8: {error}") from error


class _Reading:
    """What could be read of a description, and the mistakes in the rest.

    Each table is validated by itself, so that the checks between tables can still
    be made on all that could be read.
    """

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        #: Tables of which something could not be read.
        self.unreadable_tables: set[str] = set()
        #: {array table: where in the file each one that was read stands}
        self._indexes: dict[str, list[int]] = {}

    def parse(self, data: dict[str, Any]) -> model.Description:
        parsed: dict[str, Any] = {"storage": []}
        for key, value in data.items():
            if key in model.ARRAY_TABLES:
                parsed[key] = self._array(key, value)
            elif key in model.TABLES:
                section = self._section(model.TABLES[key], value, (key,))
                if section is not None:
                    parsed[key] = section
            else:
                self.mistakes.append(_unknown_table(key, value))
        if "storage" not in data:
            self.mistakes.append(
                Mistake(("storage",), "at least one [[storage]]", "nothing")
            )
            self.unreadable_tables.add("storage")
        return model.Description(**parsed)

    def in_file(self, mistake: Mistake) -> Mistake:
        """The mistake with the index that its table has in the file."""
        place = mistake.place
        if len(place) < 2 or not isinstance(place[1], int):
            return mistake
        index = self._indexes[str(place[0])][place[1]]
        return replace(mistake, place=(place[0], index, *place[2:]))

    def _array(self, key: str, value: Any) -> list[BaseModel]:
        if not isinstance(value, list):
            self.mistakes.append(
                Mistake((key,), f"tables, each headed [[{key}]]", mistakes.shown(value))
            )
            self.unreadable_tables.add(key)
            return []
        sections = {
            index: self._section(model.ARRAY_TABLES[key], table, (key, index))
            for index, table in enumerate(value)
        }
        read = {
            index: section for index, section in sections.items() if section is not None
        }
        self._indexes[key] = list(read)
        return list(read.values())

    def _section(
        self, section: type[BaseModel], value: Any, place: tuple[str | int, ...]
    ) -> BaseModel | None:
        try:
            return section.model_validate(value)
        except ValidationError as error:
            self.mistakes.extend(
                mistakes.from_pydantic(detail, section, place)
                for detail in error.errors()
            )
            self.unreadable_tables.add(str(place[0]))
            return _without_wrong_keys(section, value, error)


def _without_wrong_keys(
    section: type[BaseModel], value: Any, error: ValidationError
) -> BaseModel | None:
    """The rest of a table, which is still checked against the others."""
    wrong = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
    if not isinstance(value, dict) or not wrong:
        return None
    try:
        return section.model_validate(
            {key: content for key, content in value.items() if key not in wrong}
        )
    except ValidationError:
        return None


def _unknown_table(key: str, value: Any) -> Mistake:
    known = {
        field.alias or name for name, field in model.Description.model_fields.items()
    }
    if key in known:
        return Mistake(
            (key,),
            "nothing here yet",
            mistakes.shown(value),
            "reserved: not supported yet",
        )
    hint = mistakes.did_you_mean(key, known)
    return Mistake((key,), "no such key", mistakes.shown(key), hint)


def _unreadable_servers(
    data: dict[str, Any], description: model.Description
) -> frozenset[str]:
    tables = data.get("zeo")
    if not isinstance(tables, list):
        return frozenset()
    readable = {zeo.name for zeo in description.zeo}
    names = {table.get("name") for table in tables if isinstance(table, dict)}
    return frozenset(name for name in names if isinstance(name, str)) - readable


def _may_hide_root(data: dict[str, Any], mistakes: list[Mistake]) -> bool:
    """Whether a storage that could not be read is the root, or may be."""
    for place in (mistake.place for mistake in mistakes):
        if place[0] == "storage" and (len(place) < 3 or place[2] == "mount-point"):
            return True
    tables = data["storage"] if isinstance(data.get("storage"), list) else []
    return any(table.get("mount-point") == "/" for table in tables)
