"""Mistakes in a description, each told in one line with its place."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from tidstorage.cluster.fields import RESERVED
from tidstorage.cluster.values import WRONG_FORM

#: {pydantic's type of error: what was expected, in our words}
_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
    "missing": "a value (it is required)",
}
_LONGEST_SHOWN = 60

#: Keys, and indexes from 0, as in TOML: ``("storage", 2, "zeo")``.
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake.

    expected, found, hint: in words.
    """

    place: Place
    expected: str
    found: str
    hint: str = ""

    def text(self, lines: Sequence[str]) -> str:
        """The mistake in one line; lines: those of the file, to tell its number."""
        number = _line_number(self.place, lines)
        where = f"line {number}, " if number else ""
        hint = f" ({self.hint})" if self.hint else ""
        return (
            f"{where}{_dotted(self.place)}: expected {self.expected},"
            f" found {self.found}{hint}"
        )


def shown(value: Any) -> str:
    """A value as TOML would write it, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def find_duplicates(named: list[tuple[Place, str]], what: str) -> Iterator[Mistake]:
    """A mistake for each place whose name an earlier one has; what: the name's kind."""
    first: dict[str, Place] = {}
    for place, name in named:
        if name in first:
            yield Mistake(
                place,
                f"{what} that nothing else has",
                shown(name),
                "it is there twice",
            )
        first.setdefault(name, place)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the most similar of the known words; empty where none is."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f'did you mean "{near[0]}"?' if near else ""


def from_pydantic(
    error: ErrorDetails, section: type[BaseModel], place: Place
) -> Mistake:
    """One of pydantic's errors as a mistake; place: of the section it is in."""
    full = (*place, *(part for part in error["loc"] if part != "[key]"))
    kind = error["type"]
    if kind == "extra_forbidden":
        known = [field.alias or name for name, field in section.model_fields.items()]
        key = str(error["loc"][-1])
        return Mistake(
            full,
            "no such key",
            shown(key),
            did_you_mean(key, known) or f"known keys: {', '.join(sorted(known))}",
        )
    if kind == RESERVED:
        return Mistake(full, "nothing here yet", shown(error["input"]), error["msg"])
    if kind == "missing":
        return Mistake(full, _EXPECTED[kind], "nothing")
    if kind == WRONG_FORM:
        return Mistake(full, error["msg"], shown(error["input"]))
    said = error["msg"].removeprefix("Input should be ")
    return Mistake(full, _EXPECTED.get(kind, said), shown(error["input"]))


def _dotted(place: Sequence[str | int]) -> str:
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if text else part
    return text or "the file"


def _line_number(place: Sequence[str | int], lines: Sequence[str]) -> int | None:
    """The number of the line of a key, or of its table; None where unknown."""
    if not place:
        return None
    table = re.escape(str(place[0]))
    index = place[1] if len(place) > 1 and isinstance(place[1], int) else 0
    header = re.compile(rf"\s*\[{{1,2}}\s*{table}\s*\]{{1,2}}")
    headers = [number for number, line in enumerate(lines) if header.match(line)]
    if index >= len(headers):
        return None
    start = headers[index]
    keys = [part for part in place[1:] if isinstance(part, str)]
    if keys:
        key = re.compile(rf'\s*"?{re.escape(keys[0])}"?\s*[=.]')
        for number in range(start + 1, len(lines)):
            if lines[number].lstrip().startswith("["):
                break
            if key.match(lines[number]):
                return number + 1
    return start + 1


def report(path: Path, mistakes: Sequence[Mistake], text: str) -> str:
    """The message for all mistakes of a file, each in a line of its own."""
    lines = text.splitlines()
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return "\n  ".join(
        [f"{path} has {count}:", *(mistake.text(lines) for mistake in mistakes)]
    )
