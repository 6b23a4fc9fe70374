"""How far a reader walks: ``python benchmarks/trips.py``.

Each trip of a datum (docs/design.rst) is made for real, in a process of its own, by
one that notes each function when it is called for the first time: in that order a
reader opens them.  Told are the modules and the folders (packages) that are entered,
and how often the walk comes back to a module that it had left.  A module that stands
in ``tidstorage`` itself, beside the folders, is a place of its own: "places" are the
folders and those modules.  What runs while modules are imported does not count, nor
what other processes do; threads make "returns" differ by a few from run to run.

It runs on older trees too, to compare: ``PYTHONPATH=OLD/src`` before the command.
``--walk`` shows each folder with its modules, in the order of the walk.
"""

import argparse
import importlib
import inspect
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import tidstorage

SOURCE = Path(tidstorage.__file__).parents[1]
sys.path.insert(0, str(SOURCE.parent / "tests"))

#: {what is called: where it is, the newest tree first}.
ENTRY_POINTS = {
    "command": ["tidstorage.commands.cluster:main"],
    "daemon": [
        "tidstorage.commands.scripts.daemon:main",
        "tidstorage.daemon.main:main",
    ],
    "back_up": [
        "tidstorage.verbs.backup.backup:back_up",
        "tidstorage.backup.perform:back_up",
    ],
    "restore": [
        "tidstorage.verbs.restore.restore:restore_in_place",
        "tidstorage.restore.perform:in_place",
    ],
    "request": [
        "tidstorage.verbs.restore.plan:Request",
        "tidstorage.restore.plan:Request",
    ],
    "load": [
        "tidstorage.cluster.load:load_cluster",
        "tidstorage.clusterfile:load_cluster",
    ],
    "write_files": [
        "tidstorage.deployment.install:write_files",
        "tidstorage.deploy:write_files",
    ],
    "free_port": ["real_processes:free_port", "real:free_port"],
    "wait_until": ["real_processes:wait_until", "real:wait_until"],
}


def entry_point(what: str) -> Any:
    """What is called so, wherever this tree has it."""
    for place in ENTRY_POINTS[what]:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise SystemExit(f"{what}: in none of {', '.join(ENTRY_POINTS[what])}")


class Walk:
    """The modules of the functions that were called, by thread, in their order."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._known: set[CodeType] = set()
        self.threads: dict[int, list[str]] = {}

    def __enter__(self) -> "Walk":
        threading.setprofile(self._called)
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _called(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event != "call" or code in self._known:
            return
        module = _module(code)
        # Bodies of modules and classes are no functions, and have no such flag.
        if module and code.co_flags & inspect.CO_OPTIMIZED and not _importing(frame):
            self._known.add(code)
            self.threads.setdefault(threading.get_ident(), []).append(module)


def _module(code: CodeType) -> str | None:
    """The name of the module that the code stands in; None for those of others."""
    path = Path(code.co_filename)
    if path.suffix != ".py" or not path.is_relative_to(SOURCE):
        return None
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def _importing(frame: FrameType) -> bool:
    above: FrameType | None = frame
    while above is not None:
        if above.f_code.co_name == "<module>" and _module(above.f_code):
            return True
        above = above.f_back
    return False


def modules_of(walks: list[list[str]]) -> list[str]:
    """Each module once."""
    return list(dict.fromkeys(module for walk in walks for module in walk))


def folder_of(module: str) -> str:
    """The package of a module; of a package's own code, the package."""
    return module.rpartition(".")[0]


def place_of(module: str) -> str:
    """Its folder, or the module where it stands in none but the outermost."""
    folder = folder_of(module)
    return module if folder == "tidstorage" else folder


def returns_in(walks: list[list[str]]) -> int:
    """How often a walk comes back to a module that it has left."""
    returns = 0
    for walk in walks:
        left: set[str] = set()
        for before, module in itertools.pairwise(walk):
            if module != before:
                left.add(before)
                returns += module in left
    return returns


# The trips, each in a process of its own


def commit(folder: Path, walk: Walk) -> None:
    """Two storages written by one stamped transaction, and the daemon told."""
    import transaction
    import ZEO
    import ZODB

    site = json.loads((folder / "site.json").read_text())
    databases: dict[str, ZODB.DB] = {}
    for storage, address in site["storages"].items():
        client = ZEO.client(tuple(address), storage=storage)
        ZODB.DB(client, database_name=storage, databases=databases)
    with walk:
        tidstorage.install(("127.0.0.1", site["daemon"]))
        first = databases["root"].open()
        for connection in (first, first.get_connection("catalog")):
            connection.root()["x"] = 1
        transaction.commit()
        told = tidstorage.statistics
        entry_point("wait_until")(lambda: told()["sent"] >= 2, "BEGIN and COMMIT sent")
    assert told()["stamped"] == 1 and told()["errors"] == 0, told()
    tidstorage.uninstall()
    first.close()
    for database in [*databases.values()]:
        database.close()


def follow(folder: Path, walk: Walk) -> None:
    """A daemon that notes all between two signals; the caller commits between them."""

    def on_signal(_number: int, _frame: object) -> None:
        begun = folder / "begun"
        if begun.exists():
            _write(folder / "follow.json", walk)
        else:
            walk.clear()
            begun.touch()

    signal.signal(signal.SIGUSR2, on_signal)
    with walk:
        entry_point("daemon")(["-c", str(folder / "tidstorage.conf"), "--fg"])


def back_up(folder: Path, walk: Walk) -> None:
    cluster = entry_point("load")(folder / "cluster.toml")
    perform = entry_point("back_up")
    with walk:
        perform(cluster)


def back_up_by_command(folder: Path, walk: Walk) -> None:
    with walk:
        _command(folder, "backup")


def restore(folder: Path, walk: Walk) -> None:
    cluster = entry_point("load")(folder / "cluster.toml")
    perform, request = entry_point("restore"), entry_point("request")()
    with walk:
        perform(cluster, request)


def restore_by_command(folder: Path, walk: Walk) -> None:
    with walk:
        _command(folder, "restore")


def _command(folder: Path, verb: str) -> None:
    status = entry_point("command")(
        ["--cluster-file", str(folder / "cluster.toml"), verb]
    )
    assert status == 0, status


def generate(folder: Path, walk: Walk) -> None:
    """What is generated from a description."""
    with walk:
        cluster = entry_point("load")(folder / "cluster.toml")
        entry_point("write_files")(cluster)
    assert cluster.zopes[0].configuration.is_file()


#: By the name of the function, which is also the process's argument.
TRIPS: dict[str, Callable[[Path, Walk], None]] = {
    trip.__name__: trip
    for trip in (
        commit,
        follow,
        back_up,
        back_up_by_command,
        restore,
        restore_by_command,
        generate,
    )
}


def _write(file: Path, walk: Walk) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps([*walk.threads.values()]))
    beside.rename(file)


def _start(trip: str, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, __file__, "--trip", trip, str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=(folder / f"{trip}.log").open("wb"),
    )


def make(trip: str, folder: Path) -> list[list[str]]:
    """Make one trip in a process of its own; the walk of each of its threads."""
    if _start(trip, folder).wait():
        raise SystemExit(f"{trip}: {(folder / f'{trip}.log').read_text()}")
    return _read(folder, trip)


def _read(folder: Path, trip: str) -> list[list[str]]:
    walks: list[list[str]] = json.loads((folder / f"{trip}.json").read_text())
    return walks


def commit_and_follow(
    folder: Path, small: Any
) -> tuple[list[list[str]], list[list[str]]]:
    """A commit, from stamp to record, and from there to a point that is on disk."""
    from daemons import Peer

    wait_until = entry_point("wait_until")
    port = entry_point("free_port")()
    log = folder / "tidlog"
    (folder / "tidstorage.conf").write_text(
        f"address 127.0.0.1\nport {port}\nstatus-file {log}\nburst-period 0\n"
        f"journal {folder / 'journal'}\n"
        + "".join(
            f"<storage {storage}>\nserver {host}:{number}\n</storage>\n"
            for storage, (host, number) in small.addresses.items()
        )
    )
    site = {"storages": small.addresses, "daemon": port}
    (folder / "site.json").write_text(json.dumps(site))
    process = _start("follow", folder)
    try:
        ends: dict[str, int] = {}

        def published() -> bool:
            try:
                peer = Peer(port)
            except ConnectionRefusedError:
                return False
            try:
                return dict(peer.dump()) == ends
            finally:
                peer.close()

        ends = _ends(small)
        wait_until(published, "the daemon's first point")
        process.send_signal(signal.SIGUSR2)
        wait_until((folder / "begun").exists, "the daemon begins to note")
        length = log.stat().st_size
        stamped = make("commit", folder)
        ends = _ends(small)
        wait_until(published, "the daemon's next point")
        wait_until(lambda: log.stat().st_size > length, "the point is on disk")
        process.send_signal(signal.SIGUSR2)
        wait_until((folder / "follow.json").exists, "the daemon has noted")
    except AssertionError as error:
        raise SystemExit(f"{error}\n{(folder / 'follow.log').read_text()}") from error
    finally:
        process.terminate()
        process.wait()
    return stamped, _read(folder, "follow")


def _ends(small: Any) -> dict[str, int]:
    """The last TID of each storage, by asking its server."""
    import ZEO

    ends = {}
    for storage, address in small.addresses.items():
        client = ZEO.client(address, storage=storage)
        ends[storage] = int.from_bytes(client.lastTransaction(), "big")
        client.close()
    return ends


def all_walks(folder: Path) -> dict[str, list[list[str]]]:
    """{what the trip is: the walks of its threads}."""
    from small_cluster import small_cluster

    walks = {}
    with small_cluster(folder) as small:
        port = entry_point("free_port")
        description = (
            '[cluster]\nname = "small"\n'
            + small.description()
            + f'[[zope]]\nname = "web-1"\naddress = "127.0.0.1:{port()}"\n'
            + f'[tidstorage]\naddress = "127.0.0.1:{port()}"\n'
            # One after another: walks are the same each time then.
            + f'[backup]\ndirectory = "{folder / "backup"}"\njobs = 1\n'
        )
        (folder / "cluster.toml").write_text(description)
        small.write(1, 9)
        stamped, followed = commit_and_follow(folder, small)
        walks["commit: stamp into a record"] = stamped
        walks["commit: record to a point"] = followed
        walks["commit, both"] = stamped + followed
        walks["description to zope.conf"] = make("generate", folder)
        walks["backup"] = make("back_up", folder)
        walks["bin/cluster backup"] = make("back_up_by_command", folder)
        small.stop()
        walks["restore"] = make("restore", folder)
        walks["bin/cluster restore"] = make("restore_by_command", folder)
    return walks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walk", action="store_true", help="show folders and modules")
    parser.add_argument("--trip", nargs=2, metavar=("TRIP", "DIR"), help="(internal)")
    options = parser.parse_args()
    if options.trip:
        trip, folder = options.trip[0], Path(options.trip[1])
        walk = Walk()
        TRIPS[trip](folder, walk)
        if trip != "follow":
            _write(folder / f"{trip}.json", walk)
        return
    with tempfile.TemporaryDirectory() as name:
        walks = all_walks(Path(name))
    heads = ("modules", "folders", "places", "returns")
    print(f"{SOURCE}\n{'trip':28}" + "".join(f"{head:>8}" for head in heads))
    for trip, walked in walks.items():
        modules = modules_of(walked)
        folders = dict.fromkeys(map(folder_of, modules))
        places = set(map(place_of, modules))
        counts = (len(modules), len(folders), len(places), returns_in(walked))
        print(f"{trip:28}" + "".join(f"{count:8}" for count in counts))
        for folder in folders if options.walk else ():
            inside = [module for module in modules if folder_of(module) == folder]
            names = [module.rpartition(".")[2] for module in inside]
            print(f"    {folder}: {' '.join(names)}")


if __name__ == "__main__":
    main()
