"""The reference page of cluster.toml, made from its model and kept in docs/.

``python -m tidstorage.cluster.reference > docs/description.rst``
"""

import json
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from tidstorage.cluster.fields import is_reserved
from tidstorage.cluster.model import (
    ARRAY_TABLES,
    TABLES,
    Description,
    Section,
)
from tidstorage.cluster.values import Check

_HEAD = """\
.. Made by python -m tidstorage.cluster.reference; edit the model instead.

cluster.toml
============

One file describes a cluster.  Keys are hyphenated; a relative path is below the
folder of the file, an absolute one may be anywhere.  All mistakes are listed at
once, each with its line, what was expected and what was found; nothing is changed
then.  ``cluster.schema.json`` beside this page is the same for an editor.
"""


def reference_text() -> str:
    """The page, with a last newline."""
    parts = [_HEAD]
    for name, section in TABLES.items():
        parts.append("\n".join(_table(f"[{name}]", section)))
    for name, section in ARRAY_TABLES.items():
        parts.append("\n".join(_table(f"[[{name}]]", section)))
    reserved = sorted(_reserved("", Description)) + [
        f"``[{name}]`` {key}"
        for name, section in {**TABLES, **ARRAY_TABLES}.items()
        for key in sorted(_reserved(name, section))
    ]
    parts.append("Reserved\n--------\n\nKnown, and refused until a later version:\n")
    parts.append("\n".join(f"- {key}" for key in reserved) + "\n")
    return "\n".join(parts)


def _table(title: str, section: type[Section]) -> Iterator[str]:
    yield title
    yield "-" * len(title)
    yield ""
    text = (section.__doc__ or "").partition(": ")[2].strip()
    if text:
        yield text[0].upper() + text[1:]
        yield ""
    for name, field in section.model_fields.items():
        if not is_reserved(field):
            yield f"``{field.alias or name}``"
            yield f"    {_meaning(field)}"
    yield ""


def _meaning(field: FieldInfo) -> str:
    words = []
    if field.description:
        words.append(field.description)
    for check in field.metadata:
        if isinstance(check, Check) and not field.description:
            words.append(check.expected[0].upper() + check.expected[1:] + ".")
    if field.is_required():
        words.append("Required.")
    elif field.default not in (None, "", [], {}):
        words.append(f"Default: ``{json.dumps(field.default)}``.")
    return " ".join(words)


def _reserved(table: str, section: type[Section]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if is_reserved(field):
            key = field.alias or name
            yield f"``{key}``" if table else f"``[{key}]``"


if __name__ == "__main__":
    print(reference_text(), end="")
