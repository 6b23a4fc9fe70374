"""A sparse Data.fs of 50 GB on a small disk: ``python benchmarks/sparse.py``.

As root on a file system of its own, far smaller than the file (``--disk``), in an image
that is mounted for it; else in ``--folder``.  Backs it up compressed and restores it
beside, and tells the seconds and how much of the disk each of them took.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import sparse_files
from backup import MAIN, Bench, run
from real_processes import zeo_server

GB = 10**9
OBJECT = GB


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of ``size`` bytes, mounted in ``folder``."""
    image, mounted = folder / "image", folder / "disk"
    mounted.mkdir()
    image.touch()
    os.truncate(image, size)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)


def measure(folder: Path, size: int) -> dict[str, Any]:
    """The figures of one run."""
    source = folder / "zeo" / f"{MAIN}.fs"
    source.parent.mkdir()
    sparse_files.write(source, size // OBJECT, OBJECT)
    said: dict[str, Any] = {
        "free bytes": os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize,
        "bytes": source.stat().st_size,
        "bytes on disk": sparse_files.taken(source),
    }
    with zeo_server(folder / "zeo", [MAIN]) as server:
        bench = Bench(folder, server)
        steps = {"backup": bench.backup(True), "restore": bench.restore(True)}
        for name, commands in steps.items():
            wall, cpu = run(commands["ours"])
            said[name] = {"s of wall clock": round(wall, 1), "s of CPU": round(cpu, 1)}
    (backup,) = folder.glob("backup-*")
    said["backup"]["bytes on disk"] = sparse_files.taken(backup)
    said["restore"]["bytes on disk"] = sparse_files.taken(bench.into)
    (restored,) = bench.into.glob("*/Data.fs")
    said["restore"]["bytes"] = restored.stat().st_size
    said["load average"] = [round(each, 1) for each in os.getloadavg()]
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=50 * GB, help="bytes")
    parser.add_argument("--disk", type=int, default=GB, help="bytes; 0: none")
    parser.add_argument("--folder", type=Path, help="where to work (default: /tmp)")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        disk = small_disk(folder, options.disk)
        with disk if options.disk else contextlib.nullcontext(folder) as place:
            said = measure(place, options.size)
    print(json.dumps(said | {"s in all": round(time.monotonic() - began)}, indent=1))


if __name__ == "__main__":
    main()
