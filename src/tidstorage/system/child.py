"""What a Python process that we start needs, to find the same packages as we."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def python(module: str) -> Sequence[str]:
    """The command line that runs a module under this same interpreter.

    ``-P``: nothing is imported from the folder in which it happens to run.
    """
    return [sys.executable, "-P", "-m", module]


def python_file(path: Path) -> Sequence[str]:
    """The command line that runs a file under this same interpreter.

    ``-P``: nothing is imported from the folder in which the file lies.
    """
    return [sys.executable, "-P", str(path)]


def environment() -> dict[str, str]:
    """Our environment, with our own import path spelled out.

    Scripts made by buildout extend ``sys.path`` by themselves, and a child
    would not know of it.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path}
