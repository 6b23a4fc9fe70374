"""Commands on a disk that fails now and then: with EIO, ESTALE, EACCES, ETIMEDOUT."""

import atexit
import errno
import functools
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tidstorage.cluster.cluster import Cluster

SOURCE = Path(__file__).with_suffix(".c")
#: As many times as are asked for.
ALWAYS = 1_000_000_000
_RUN = """
import pickle, sys
from tidstorage.commands import cluster as front
described = pickle.loads(open(sys.argv[1], "rb").read())
front.open_cluster = lambda _file: described
sys.exit(front.main(sys.argv[2:]))
"""


@functools.cache
def library() -> Path:
    """What lets calls of the system fail, compiled once in a process.

    Tests that need it are skipped where no C compiler is; bootstrap.py installs one.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): as root, apt-get install gcc libc6-dev")
    folder = Path(tempfile.mkdtemp(prefix="failing-disk-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "failing_disk.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", path, SOURCE, "-ldl"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"{SOURCE.name} cannot be compiled (apt-get install gcc libc6-dev?):\n"
            f"{done.stderr}"
        )
    return path


def failing(
    path: object,
    number: int = errno.EIO,
    calls: str = "read",
    times: int = ALWAYS,
    after: int = 0,
) -> dict[str, str]:
    """The environment in which ``calls`` on paths that contain ``path`` fail.

    number: of the error.  calls: any of open, stat, read, list.  times: how often,
    after: so many that go well.
    """
    return {
        "LD_PRELOAD": str(library()),
        "FAILING_PATH": str(path),
        "FAILING_ERRNO": str(int(number)),
        "FAILING_CALLS": calls,
        "FAILING_TIMES": str(times),
        "FAILING_AFTER": str(after),
    }


def run_verb(
    cluster: Cluster, *arguments: str, disk: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``bin/cluster`` in a process of its own; disk: as `failing` gives it."""
    with tempfile.NamedTemporaryFile(suffix=".pickle") as described:
        described.write(pickle.dumps(cluster))
        described.flush()
        done = subprocess.run(
            [sys.executable, "-c", _RUN, described.name, *arguments],
            env={**os.environ, **(disk or {})},
            capture_output=True,
            text=True,
        )
    assert "Traceback" not in done.stderr, done.stderr
    return done
