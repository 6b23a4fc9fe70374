"""What a cluster needs once: mount points, a first user, a first point."""

import json
import secrets
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster, Zope
from tidstorage.coherence.point import Point
from tidstorage.deployment import inside_zope
from tidstorage.errors import FileUnreadable, NotReady, PartMissing
from tidstorage.operation import lock
from tidstorage.points import known_files, server_ends
from tidstorage.points.beside import newest_point, write_beside
from tidstorage.processes import control, running
from tidstorage.processes.process import list_processes
from tidstorage.sets import history
from tidstorage.system import durable, json_file

USER = "admin"
#: Before the JSON in the last line of the script that runs inside Zope.
_MARK = "initialised: "
_PASSWORD_BYTES = 15
_CONSOLE_SECONDS = 300
_SHOWN_LINES = 12

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Initialised:
    """What was done now, and not already before.

    mounted: the mount points that were created.  password_file: where the password of
    the first user is, if that user was created.  point: the first coherency point, if
    it was taken.
    """

    mounted: tuple[str, ...]
    password_file: Path | None
    point: Point | None


@dataclass(frozen=True, slots=True)
class _Done:
    """What earlier runs did: the mount points that they created."""

    mount_points: list[str]


def password_file(cluster: Cluster) -> Path:
    """Where the generated password of the first user is kept, with mode 0600."""
    return cluster.run_directory.parent / "admin-password"


def _record(cluster: Cluster) -> Path:
    return cluster.run_directory.parent / "initialised.json"


def list_missing(cluster: Cluster) -> list[str]:
    """What `initialise` would do, in words; empty where all was done before."""
    missing = []
    if cluster.zopes and (paths := _new_mount_points(cluster)):
        missing.append(
            f"create the mount points {', '.join(paths)}"
            if paths != ["/"]
            else "create the root"
        )
    if newest_point(cluster) is None:
        missing.append("take the first coherency point")
    return missing


def _new_mount_points(cluster: Cluster) -> list[str]:
    """The mount points that no earlier run has created; "/" is the root itself."""
    try:
        done = json_file.read(_record(cluster), _Done, "a record of mount points")
    except FileUnreadable:
        done = _Done([])
    wanted = {storage.mount_point for storage in cluster.storages}
    return sorted(wanted - set(done.mount_points))


def begin_anew(cluster: Cluster) -> str:
    """Let the cluster have a history of its own, and return its id.

    Raises: OSError: where it cannot be written.
    """
    return history.establish(cluster)


def initialise(cluster: Cluster, tell: Tell) -> Initialised:
    """Create what is missing, on ZEO servers that are started for it where needed.

    Servers that did not run before are stopped again.  Where nothing is missing,
    nothing is started.

    Raises:
      NotReady: where a server, or the Zope that does it, fails.
      PartMissing: where the Zope's console has not been generated.
      BarrierFailed: where the first point cannot be taken.
      and what `processes.control.start` raises before anything is done.
    """
    with lock.hold(cluster, "init"):
        if not list_missing(cluster):
            return Initialised((), None, None)
        idle = not running.find_running(cluster)
        begun = _start_servers(cluster, tell)
        try:
            return _initialise(cluster, tell)
        finally:
            if idle:
                control.stop(cluster)
            elif begun:
                control.stop(cluster, begun)


def _start_servers(cluster: Cluster, tell: Tell) -> list[str]:
    """Start the ZEO servers; the programs of those that did not run before."""
    names = [
        process.program
        for process in list_processes(cluster)
        if process.kind == "zeo" and process.managed
    ]
    begin = [process.program for process in control.make_plan(cluster, names).begin]
    control.start(cluster, names, tell=tell)
    return begin


def _initialise(cluster: Cluster, tell: Tell) -> Initialised:
    mounted: tuple[str, ...] = ()
    password: Path | None = None
    if cluster.zopes and _new_mount_points(cluster):
        mounted, password = _run_in_zope(cluster, tell)
    first = None
    if newest_point(cluster) is None:
        first = server_ends.take_instant(cluster).point()
        write_beside(first, [storage.data_file for storage in cluster.storages])
        tell(f"first coherency point: {first.id}")
        history.establish(cluster)
        known_files.note(cluster, first.vector)
    return Initialised(mounted, password, first)


def _run_in_zope(cluster: Cluster, tell: Tell) -> tuple[tuple[str, ...], Path | None]:
    paths = sorted({storage.mount_point for storage in cluster.storages})
    secret = password_file(cluster)
    is_new = not secret.exists()
    if is_new:
        durable.replace_text(secret, secrets.token_urlsafe(_PASSWORD_BYTES) + "\n")
    request = {
        "mount_points": [path for path in paths if path != "/"],
        "user": USER,
        "password_file": str(secret),
    }
    done = _run_console(cluster, cluster.zopes[0], request, tell)
    if not done["user"] and is_new:
        # The site has its users already.
        secret.unlink()
    json_file.write(_record(cluster), _Done(paths))
    return tuple(done["mounted"]), secret if done["user"] else None


def _run_console(
    cluster: Cluster, zope: Zope, request: dict[str, Any], tell: Tell
) -> dict[str, Any]:
    script = cluster.bin_directory / f"zope-{zope.name}-console"
    inside = inside_zope.find_script("initialise.py")
    tell(f"Zope {zope.name} creates the mount points and the first user")
    try:
        result = subprocess.run(
            [script, "run", inside, json.dumps(request)],
            cwd=cluster.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_CONSOLE_SECONDS,
        )
    except OSError as error:
        raise PartMissing(
            f"{script}: {error.strerror}", "bin/buildout makes it."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NotReady(
            f"Zope {zope.name} did not end within {_CONSOLE_SECONDS} s",
            f"Its log is {zope.log}.",
        ) from error
    lines = result.stdout.splitlines()
    for line in lines:
        if line.startswith(_MARK) and result.returncode == 0:
            done: dict[str, Any] = json.loads(line.removeprefix(_MARK))
            return done
    raise NotReady(
        f"Zope {zope.name} could not initialise the root database"
        f" (exit status {result.returncode}; log: {zope.log})",
        _quote_end(lines),
    )


def _quote_end(lines: Sequence[str]) -> str:
    return "It said:\n" + "\n".join(lines[-_SHOWN_LINES:])
