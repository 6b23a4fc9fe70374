"""The Zope that looks at the past: its files, its process, and what it exports."""

import contextlib
import dataclasses
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster, Zope
from tidstorage.deployment import inside_zope
from tidstorage.deployment.rendering import generate
from tidstorage.deployment.zope_files import HttpServer, generate_wsgi
from tidstorage.errors import EngineFailed, NoSuchObject, NotReady, PartMissing
from tidstorage.processes.process import Process, list_processes
from tidstorage.processes.readiness import not_ready
from tidstorage.system import child, proc
from tidstorage.verbs.browse import export_status
from tidstorage.verbs.browse.scratch import Scratch

HOST = "127.0.0.1"
#: The user that Zope lets in whatever the database says; of this one run.
USER = "browse"
_READY_SECONDS = 120.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Served:
    """A Zope that serves the past.

    url: of its management pages.  user, password: of a user who may see everything.
    """

    url: str
    user: str
    password: str
    process: "subprocess.Popen[bytes]"


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a Zope that serves the past; script: the site's own."""

    script: Path
    configuration: Path
    wsgi: Path
    log: Path


def choose(cluster: Cluster, name: str | None) -> Zope:
    """The Zope of the description whose products are used; None: the first.

    Raises: PartMissing: where the description has no such Zope, or none at all.
    """
    for zope in cluster.zopes:
        if name in (None, zope.name):
            return zope
    if name is None:
        raise PartMissing(f"{cluster.file} has no [[zope]] that could show anything")
    raise PartMissing(
        f"{cluster.file} has no Zope {name}",
        f"It has {', '.join(zope.name for zope in cluster.zopes)}.",
    )


def write_files(cluster: Cluster, zope: Zope, scratch: Scratch, port: int) -> Files:
    """Write its zope.conf and wsgi.ini, over the storages in the scratch folder."""
    home = scratch.folder / "zope"
    home.mkdir(mode=0o700)
    configuration, wsgi, log = home / "zope.conf", home / "wsgi.ini", home / "zope.log"
    server = HttpServer(
        f"{zope.name} of the past",
        configuration=configuration,
        host=HOST,
        port=port,
        threads=zope.threads,
        log=log,
    )
    for file in (
        generate(
            "zope-browse-conf",
            "zope-browse.conf.in",
            configuration,
            {
                "directory": str(home),
                "client_home": str(home),
                "environment": zope.environment,
                "additional": zope.zope_conf_additional,
                "storages": _describe_storages(cluster, scratch.folder / "restored"),
            },
        ),
        generate_wsgi("zope-browse-ini", wsgi, server),
    ):
        file.target.write_text(file.text)
        file.target.chmod(0o600)
    return Files(cluster.bin_directory / f"zope-{zope.name}", configuration, wsgi, log)


def _describe_storages(cluster: Cluster, restored: Path) -> list[dict[str, Any]]:
    """Those that were restored: one that was added since has no file there."""
    return [
        {
            "database": storage.database_name,
            "mount_point": storage.mount_point,
            "cache_size": storage.cache_size,
            "path": str(restored / storage.id / "Data.fs"),
            "blob_dir": str(blobs) if blobs.exists() else None,
        }
        for storage in cluster.storages
        if (restored / storage.id / "Data.fs").exists()
        for blobs in [restored / storage.id / "blobs"]
    ]


@contextlib.contextmanager
def serving(
    cluster: Cluster, zope: Zope, scratch: Scratch, port: int | None
) -> Iterator[Served]:
    """Serve the restored storages on loopback until the end of the block.

    port: where it serves; None: a free one.

    Raises:
      NotReady: where it does not come up.
      PartMissing: where its script is not there.
    """
    port = port or proc.free_ports(1)[0]
    files = write_files(cluster, zope, scratch, port)
    password = secrets.token_urlsafe(9)
    access = files.configuration.with_name("access")
    access.touch(0o600)
    access.write_text(f"{USER}:{password}\n")
    with (
        files.log.open("ab") as log,
        _start(files, scratch, ["serve", str(files.wsgi)], log.fileno()) as process,
    ):
        _wait_until_ready(cluster, zope, process, port, files.log)
        yield Served(f"http://{HOST}:{port}/manage_main", USER, password, process)


@contextlib.contextmanager
def _start(
    files: Files, scratch: Scratch, arguments: Sequence[str], output: int
) -> Iterator["subprocess.Popen[bytes]"]:
    if not files.script.exists():
        raise PartMissing(f"{files.script} is not there", "Run bin/buildout first.")
    inside = inside_zope.find_script("browse.py")
    command = [*child.python_file(inside), str(files.script), *arguments]
    process = subprocess.Popen(
        command,
        cwd=files.configuration.parent,
        env=child.environment(),
        # It ends when we do, however that is: its input ends then.
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        pass_fds=[scratch.lock],
        # Ctrl-C is for us alone.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(
    cluster: Cluster,
    zope: Zope,
    process: "subprocess.Popen[bytes]",
    port: int,
    log: Path,
) -> None:
    described = _describe_process(cluster, zope, port)
    deadline = time.monotonic() + _READY_SECONDS
    while (why := not_ready(described)) is not None:
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise NotReady(
                f"the Zope that was to show the past did not come up: {why}\n"
                + "\n".join(lines[-5:]),
                "Do its products need a service that is down? Its zope.conf is the"
                f" description's for {zope.name}.",
            )
        time.sleep(0.1)


def _describe_process(cluster: Cluster, zope: Zope, port: int) -> Process:
    """The Zope of the description, at the address of this one."""
    (own,) = (
        process
        for process in list_processes(cluster)
        if process.kind == "zope" and process.name == zope.name
    )
    return dataclasses.replace(own, address=(HOST, port))


def export(
    cluster: Cluster, zope: Zope, scratch: Scratch, path: str, target: Path
) -> int:
    """Write one object, with all below it, to a file for Zope's import; its size.

    path: of the object in Zope.

    Raises:
      NoSuchObject: where the path leads to no object.
      EngineFailed: where the file exists, or the object lies in several databases.
    """
    files = write_files(cluster, zope, scratch, proc.free_ports(1)[0])
    beside = scratch.folder / "export.zexp"
    said = files.log.with_name("export.log")
    arguments = ["export", str(files.configuration), path, str(beside)]
    with (
        said.open("wb") as output,
        _start(files, scratch, arguments, output.fileno()) as process,
    ):
        status = process.wait()
    last = (said.read_text(errors="replace").strip().splitlines() or [""])[-1]
    if status == export_status.NO_SUCH_OBJECT:
        raise NoSuchObject(f"there is no {path} in that state: {last}")
    if status == export_status.SEVERAL_DATABASES:
        raise EngineFailed(
            f"{path}, or what is below it, refers to the databases {last}: Zope's"
            " export is of one database",
            "Export what is below, part by part.",
        )
    if status:
        raise EngineFailed(f"exporting {path} ended with status {status}: {last}")
    _copy_to_new_file(beside, target)
    return target.stat().st_size


def _copy_to_new_file(beside: Path, target: Path) -> None:
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise EngineFailed(f"{target}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as output, beside.open("rb") as source:
        while block := source.read(1 << 20):
            output.write(block)
        output.flush()
        os.fsync(output.fileno())
