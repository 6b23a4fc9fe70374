"""Backup and restore beside repozo's: ``python benchmarks/backup.py``.

One realistic storage (`realistic.py`) on a real ZEO server.  Each pair runs stock
repozo and ``bin/cluster`` as processes, one after the other, on the same file in the
same format; every other pair the other way round, so that the machine's mood cancels
out.  Wall clock and CPU time are given, since others may use the machine too.  Then
how long it takes to find and make a cut near the end of the file.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tidstorage.engines import filestorage
from tidstorage.engines.filestorage.file_tail import read_tail
from tidstorage.engines.filestorage.files_cut import cut_files
from tidstorage.system import child

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import realistic
from real_processes import ZeoServer, zeo_server

GIB = 1 << 30
MAIN = realistic.STORAGE
#: So many transactions are above the floor.
ABOVE = (100, 1_000)
CUTS = 5


class Bench:
    """The server, its description with or without compression, and repositories."""

    def __init__(self, folder: Path, server: ZeoServer) -> None:
        self.folder = folder
        self.data_file = server.data_file(MAIN)
        self.repozos, self.into = folder / "repozo", folder / "into"
        host, port = server.address
        for compress in (False, True):
            self.description(compress).parent.mkdir()
            self.description(compress).write_text(
                f"""
                [backup]
                directory = "{folder}/backup-{compress}"
                compression = "{"gzip" if compress else "none"}"
                [[zeo]]
                name = "zeo"
                address = "{host}:{port}"
                [[storage]]
                id = "{MAIN}"
                zeo = "zeo"
                mount-point = "/"
                path = "{self.data_file}"
                """
            )

    def description(self, compress: bool) -> Path:
        return self.folder / f"described-{compress}" / "cluster.toml"

    def repozo(self, *arguments: str) -> Sequence[str]:
        self.repozos.mkdir(exist_ok=True)
        command = child.python("ZODB.scripts.repozo")
        return [*command, *arguments, "-r", str(self.repozos)]

    def cluster(self, compress: bool, *arguments: str) -> Sequence[str]:
        described = ["--cluster-file", str(self.description(compress))]
        return [*child.python("tidstorage.commands.cluster"), *described, *arguments]

    def backup(self, compress: bool) -> dict[str, Sequence[str]]:
        options = ["-z"] if compress else []
        source = ["-f", str(self.data_file)]
        return {
            "repozo": self.repozo("-B", "-F", "-Q", *options, *source),
            "ours": self.cluster(compress, "backup", "--json"),
        }

    def restore(self, compress: bool) -> dict[str, Sequence[str]]:
        self.into.mkdir(exist_ok=True)
        recovered = str(self.folder / "recovered.fs")
        return {
            "repozo": self.repozo("-R", "-o", recovered),
            "ours": self.cluster(compress, "restore", "--into", str(self.into)),
        }

    def forget_backups(self) -> None:
        for path in (self.repozos, *self.folder.glob("backup-*")):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob("described-*/var"):
            shutil.rmtree(path)

    def forget_restored(self) -> None:
        shutil.rmtree(self.into, ignore_errors=True)
        for path in self.folder.glob("recovered.fs*"):
            path.unlink()

    def sizes(self) -> dict[str, int]:
        """Bytes of the data files in the repositories."""
        ours = [*self.folder.glob(f"backup-*/storages/{MAIN}/*.fs*")]
        theirs = [*self.repozos.glob("*.fs*")]
        return {
            "repozo": sum(each.stat().st_size for each in theirs),
            "ours": sum(each.stat().st_size for each in ours),
        }


def run(command: Sequence[str]) -> tuple[float, float]:
    """(wall clock, CPU) seconds of a command and its children."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=child.environment(), stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with wait status {status}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime


def pairs(
    count: int,
    commands: Callable[[], dict[str, Sequence[str]]],
    before: Callable[[], None],
) -> dict[str, Any]:
    """Medians of what `run` says of each command, and of the ratios within pairs."""
    found: dict[str, list[tuple[float, float]]] = {"repozo": [], "ours": []}
    for number in range(count):
        before()
        given = commands()
        for name in sorted(given, reverse=bool(number % 2)):
            found[name].append(run(given[name]))
    said: dict[str, Any] = {}
    for place, what in enumerate(("wall clock", "CPU")):
        taken = {name: [each[place] for each in runs] for name, runs in found.items()}
        said |= {
            f"{name}, s of {what}": round(statistics.median(runs), 2)
            for name, runs in taken.items()
        }
        ratios = [a / b for a, b in zip(taken["repozo"], taken["ours"], strict=True)]
        said[f"times as fast, by {what}"] = round(statistics.median(ratios), 1)
        said[f"each pair, by {what}"] = [round(each, 1) for each in ratios]
    return said


def disk(source: Path, target: Path) -> dict[str, float]:
    """Seconds to write as many bytes as a restore does, and flush them."""
    began = time.monotonic()
    with source.open("rb") as opened, target.open("wb") as copy:
        shutil.copyfileobj(opened, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())
    taken = time.monotonic() - began
    target.unlink()
    return {"s to copy and flush": round(taken, 2)}


def cut(path: Path) -> dict[str, Any]:
    """What it costs to find the cut above a floor, and to make one."""
    tids = [each.tid for each in read_tail(path, 0, {}).records]
    places = iter(range(2, 2 + 20 * CUTS, 20))
    index = Path(f"{path}.index")

    def find(above: int) -> None:
        cut_files({MAIN: path}, {MAIN: tids[-1 - above]}, aliases={})

    def make() -> None:
        filestorage.truncate(path, tids[-next(places)])

    said = {
        f"find it in {each:,}": milliseconds(lambda n=each: find(n)) for each in ABOVE
    }
    said["make it, and wind the index back"] = milliseconds(make)
    index.unlink(missing_ok=True)
    places = iter(range(2 + 20 * CUTS, 2 + 40 * CUTS, 20))
    said["make it, without an index"] = milliseconds(make)
    return {"transactions": len(tids), **said}


def milliseconds(work: Callable[[], None]) -> dict[str, float]:
    """The least wall clock, and the median of the CPU time, of a few times."""
    wall, cpu = [], []
    for _ in range(CUTS):
        clocks = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - clocks[0])
        cpu.append(time.process_time() - clocks[1])
    return {
        "ms of wall clock, least": round(min(wall) * 1000, 1),
        "ms of CPU, median": round(statistics.median(cpu) * 1000, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=GIB, help="bytes (default: 1 GiB)")
    parser.add_argument("--file", type=Path, help="one that realistic.py has written")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work (default: /tmp)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        print(json.dumps(measure(Path(scratch), options), indent=1))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run."""
    source = folder / "zeo" / f"{MAIN}.fs"
    source.parent.mkdir()
    if options.file is None:
        realistic.write(source, options.size)
    else:
        shutil.copyfile(options.file, source)
        shutil.copyfile(f"{options.file}.index", f"{source}.index")
    said: dict[str, Any] = {"bytes": source.stat().st_size}
    with zeo_server(folder / "zeo", [MAIN]) as server:
        bench = Bench(folder, server)
        for compress, name in ((True, "compressed"), (False, "plain")):
            said[f"full backup, {name}"] = pairs(
                options.pairs,
                lambda compress=compress: bench.backup(compress),
                bench.forget_backups,
            )
            said[f"bytes, {name}"] = bench.sizes()
            said[f"restore, {name}"] = pairs(
                options.pairs,
                lambda compress=compress: bench.restore(compress),
                bench.forget_restored,
            )
            bench.forget_restored()
        bench.forget_backups()
        said["the disk"] = disk(source, folder / "copy")
    said["a cut"] = cut(source)
    said["load average"] = [round(each, 1) for each in os.getloadavg()]
    return said


if __name__ == "__main__":
    main()
