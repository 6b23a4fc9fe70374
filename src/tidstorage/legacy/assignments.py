"""Python files of which only literals count, as the original was configured by.

They are parsed, never executed: every statement has to assign a literal to a name.
"""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidstorage.errors import DescriptionError


@dataclass(frozen=True, slots=True)
class Assignments:
    """The assignments of a file; the methods check what type they have.

    values: {name: what is assigned last}.  lines: {name: the line of that}.

    Raises: DescriptionError: by every method, where a value is of another type.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[str, int]

    def text(self, key: str) -> str | None:
        """A string; None where it is absent or empty."""
        value = self.values.get(key)
        if isinstance(value, int) and key in ("setuid", "setgid"):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise self._error(key, "a string")
        return value or None

    def file(self, key: str) -> Path | None:
        """A path, absolute, or relative to the file's own folder; None if absent."""
        text = self.text(key)
        return None if text is None else self.path.absolute().parent / text

    def number(self, key: str, default: float) -> float:
        """A number that is not negative; digits in a string are one, too."""
        value = self.values.get(key, default)
        if isinstance(value, str) and value.isdigit():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise self._error(key, "a number, 0 or more")
        return value

    def truth(self, key: str) -> bool | None:
        """True or False; None where it is absent."""
        value = self.values.get(key)
        if value is not None and value not in (0, 1):
            raise self._error(key, "True or False")
        return None if value is None else bool(value)

    def mapping(self, key: str) -> dict[Any, Any]:
        """A dict; empty where it is absent."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self._error(key, "a dict")
        return value

    def place(self, key: str) -> str:
        """Where the value is, for messages: ``FILE, line N: KEY``."""
        return f"{self.path}, line {self.lines[key]}: {key}"

    def _error(self, key: str, expected: str) -> DescriptionError:
        return DescriptionError(
            f"{self.place(key)}: expected {expected}, found {self.values[key]!r}"
        )


def parse(path: Path, text: str) -> Assignments:
    """The assignments in a text; ``path`` is for messages and relative paths.

    Raises: DescriptionError: for anything but assignments of literals.
    """
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
        for name, value in _read_statement(path, statement):
            values[name] = value
            lines[name] = statement.lineno
    return Assignments(path, values, lines)


def _read_statement(path: Path, statement: ast.stmt) -> list[tuple[str, Any]]:
    """(name, value) of each name to which the statement assigns."""
    match statement:
        case ast.Expr(ast.Constant(str())):
            # A string by itself is a comment.
            return []
        case ast.Assign(targets, value) if all(
            isinstance(target, ast.Name) for target in targets
        ):
            try:
                literal = ast.literal_eval(value)
            except ValueError:
                pass
            else:
                return [(target.id, literal) for target in targets]  # type: ignore[attr-defined]
    raise DescriptionError(
        f"{path}, line {statement.lineno}: expected the assignment of a literal,"
        f" found: {ast.unparse(statement).splitlines()[0]}",
        "The file is read, never executed: write the value itself.",
    )
