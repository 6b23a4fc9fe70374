"""What the pages name of the code, modules and files, is there."""

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (*ROOT.glob("*.rst"), *ROOT.glob("docs/*.rst"))
)
#: A module, or something in one: ``tidstorage.sets.manifest.write``.
NAMED = re.compile(r"``(tidstorage(?:\.\w+)+)``")
#: A file or folder of the checkout.
PATH = re.compile(r"\b((?:src|tests|docs|benchmarks|recipes)/[\w./-]*\w)")


def find(name: str) -> Any:
    """The object of a dotted name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            # One that is there, and imports what is not, is another matter.
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page):
    text = (ROOT / page).read_text()
    names = set(NAMED.findall(text))
    assert names or page not in ("docs/design.rst", "CONTRIBUTING.rst")
    wrong = []
    for name in sorted(names):
        try:
            find(name)
        except (ModuleNotFoundError, AttributeError):
            wrong.append(name)
    wrong += [path for path in sorted(set(PATH.findall(text))) if not exists(path)]
    assert not wrong


def exists(path: str) -> bool:
    # NAME is for the reader to fill in.
    return "NAME" in path or (ROOT / path).exists()


def test_a_name_that_is_not_there_is_found_out():
    with pytest.raises(AttributeError):
        find("tidstorage.coherence.cut.no_such_function")
    with pytest.raises(AttributeError):
        find("tidstorage.coherence.no_such_module")
    assert find("tidstorage.coherence.following.Coherence.advance")


def test_the_picture_shows_the_layers_of_the_contract():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = settings["tool"]["importlinter"]["contracts"][0]
    page = (ROOT / "docs/design.rst").read_text()
    picture = page.partition("The layers\n")[2].partition("\n::\n")[2]
    shown = []
    for line in picture.partition("\n\n\n")[0].splitlines():
        # What a package is for stands behind at least two spaces.
        names = re.split(r"  +", line.strip())[0]
        if names:
            shown.append(names)
    assert shown[: len(contract["layers"])] == contract["layers"]


def test_the_benchmark_of_trips_begins_where_trips_begin(monkeypatch):
    """It looks entry points up by name, where no linter sees that one has moved."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import trips

    for what, places in trips.ENTRY_POINTS.items():
        module, _, name = places[0].partition(":")
        assert hasattr(importlib.import_module(module), name), what
