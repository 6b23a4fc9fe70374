"""Copies of this checkout, and of what it was, for tests that run bootstrap.py.

The copies share the installed distributions of this interpreter, as if they had
been installed before.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from built_clusters import CHECKOUT

#: What a copy of the checkout consists of.
PARTS = (
    "bootstrap.py",
    "buildout.cfg",
    "versions.cfg",
    "cluster.default.toml",
    "pyproject.toml",
    "LICENSE.txt",
    "README.rst",
    "src",
    "recipes",
    "templates",
)


def load_bootstrap(folder: Path) -> Any:
    """The module, for what is not reached from outside."""
    spec = importlib.util.spec_from_file_location("bootstrap", folder / "bootstrap.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_of_checkout(folder: Path) -> Path:
    """A copy without anything built in it; what is there is written over."""
    folder.mkdir(exist_ok=True)
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")
    for name in PARTS:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(source, folder / name, symlinks=True, ignore=unwanted)
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


def share_environment(folder: Path) -> None:
    """A .venv that finds what this interpreter has, as if installed before.

    But our own code, which it finds in the folder first.
    """
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True
    )
    site = next((folder / ".venv/lib").glob("python3*/site-packages"))
    (site / "code.pth").write_text(f"{folder}/src\n{folder}/recipes/src\n")
    shared = sysconfig.get_path("purelib")
    (site / "shared.pth").write_text(f"import site; site.addsitedir({shared!r})\n")
    buildout = folder / ".venv/bin/buildout"
    buildout.write_text(
        f"#!{folder}/.venv/bin/python\n"
        "import sys\nfrom zc.buildout.buildout import main\nsys.exit(main())\n"
    )
    buildout.chmod(0o755)
    note_environment(folder)


def note_environment(folder: Path) -> None:
    """Let bootstrap.py take the .venv for one that it has installed just now."""
    module = load_bootstrap(folder)
    module.FINGERPRINT.write_text(module.fingerprint())


def bootstrap(
    folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "bootstrap.py", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
    )


def has_commit(commit: str) -> bool:
    """Whether the history of this checkout, if there is one, goes back so far."""
    shown = subprocess.run(
        ["git", "cat-file", "-e", f"{commit}^{{commit}}"],
        cwd=CHECKOUT,
        capture_output=True,
    )
    return shown.returncode == 0


def copy_of_commit(commit: str, folder: Path) -> Path:
    """What the checkout was at a commit of its history, in a new folder."""
    folder.mkdir()
    archive = folder.with_suffix(".tar")
    subprocess.run(
        ["git", "archive", "--output", archive, commit, *PARTS],
        cwd=CHECKOUT,
        check=True,
    )
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    archive.unlink()
    return folder
