"""The scripts that are installed, those that the original had among them."""

import importlib
import tomllib
from pathlib import Path

import pytest

PYPROJECT = Path(__file__).parents[4] / "pyproject.toml"
SCRIPTS = tomllib.loads(PYPROJECT.read_text())["project"]["scripts"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_is_there(name):
    module, function = SCRIPTS[name].split(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("tidstoraged", "tidstorage"),
        ("tidstorage_repozo", "tidstorage-repozo"),
        ("tidstorage_restore", "tidstorage-restore"),
    ],
)
def test_the_originals_names_are_the_same_programs(original, name):
    assert SCRIPTS[original] == SCRIPTS[name]
