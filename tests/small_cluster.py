"""A small cluster on real ZEO servers: two servers, three storages, one with blobs."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from real_processes import PATIENCE, ZeoServer, free_port

from tidstorage.cluster.cluster import Backup, Cluster, Daemon, Storage, Zeo, Zope
from tidstorage.system import child

WRITER = Path(__file__).parent / "stamping_writer.py"


class SmallCluster:
    """Servers alpha (catalog, root) and beta (documents, with blobs)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alpha = ZeoServer(folder / "alpha", ["catalog", "root"], "alpha")
        self.beta = ZeoServer(folder / "beta", ["documents"], "beta", blobs=True)
        self.servers = (self.alpha, self.beta)

    def start(self) -> None:
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def description(self) -> str:
        """Servers and storages as tables of a cluster.toml."""
        lines = []
        for server in self.servers:
            host, port = server.address
            lines += ["[[zeo]]", f'name = "{server.name}"']
            lines.append(f'address = "{host}:{port}"')
            for storage in server.storages:
                lines += ["[[storage]]", f'id = "{storage}"', f'zeo = "{server.name}"']
                lines.append(f'path = "{server.data_file(storage)}"')
                if storage == "root":
                    lines.append('mount-point = "/"')
                if server is self.beta:
                    lines.append(f'blob-dir = "{server.blob_directory(storage)}"')
        return "\n".join(lines) + "\n"

    def running_parts(self, _cluster: Cluster) -> list[str]:
        """What `processes.running.find_running` would tell of this cluster."""
        return [f"ZEO {each.name}" for each in self.servers if each.process]

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        return {
            storage: server.address
            for server in self.servers
            for storage in server.storages
        }

    def cluster(self, jobs: int = 2, compress: bool = False) -> Cluster:
        """As cluster.toml would describe it."""
        run = self.folder / "run"
        return Cluster(
            name="small",
            file=self.folder / "cluster.toml",
            directory=self.folder,
            user=None,
            zeos=tuple(
                Zeo(
                    each.name,
                    each.address,
                    True,
                    each.configuration,
                    each.log,
                    run / f"{each.name}.pid",
                )
                for each in self.servers
            ),
            storages=tuple(
                Storage(
                    id=storage,
                    zeo=server.name,
                    mount_point="/" if storage == "root" else f"/{storage}",
                    data_file=server.data_file(storage),
                    blob_directory=(
                        server.blob_directory(storage) if server is self.beta else None
                    ),
                    aliases=(),
                    cache_size=1000,
                    client_cache_size="1MB",
                )
                for server in self.servers
                for storage in server.storages
            ),
            retired=frozenset(),
            zopes=(self._zope(run),),
            daemon=Daemon(
                "127.0.0.1",
                free_port(),
                self.folder / "tidstorage.conf",
                self.folder / "tidlog",
                self.folder / "journal",
                self.folder / "tidstorage.log",
                run / "tidstorage.pid",
                30,
                300,
            ),
            backup=Backup(self.folder / "backup", None, jobs, compress, None, None),
            bin_directory=self.folder / "bin",
            etc_directory=self.folder / "etc",
            log_directory=self.folder / "log",
            run_directory=run,
            supervisor_configuration=self.folder / "supervisord.conf",
            supervisor_socket=run / "supervisor.sock",
        )

    def _zope(self, run: Path) -> Zope:
        return Zope(
            name="web-1",
            host="127.0.0.1",
            port=free_port(),
            threads=2,
            managed=True,
            eggs=(),
            environment={},
            zope_conf_additional="",
            cache_directory=self.folder / "cache",
            configuration=self.folder / "zope.conf",
            wsgi_configuration=self.folder / "wsgi.ini",
            log=self.folder / "zope.log",
            pid_file=run / "web-1.pid",
        )

    @contextlib.contextmanager
    def writer(self, seed: int, **options: object) -> Iterator[subprocess.Popen[str]]:
        """A process that commits stamped transactions; killed at the end."""
        data = {
            "seed": seed,
            "storages": self.addresses,
            "blobs_of": ["documents"],
            "blob_folder": str(self.folder / "client-blobs"),
            **options,
        }
        with subprocess.Popen(
            [sys.executable, str(WRITER), json.dumps(data)],
            stdout=subprocess.PIPE,
            env=child.environment(),
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield process
            finally:
                process.kill()

    def write(self, seed: int, count: int, **options: object) -> None:
        """Commit ``count`` transactions."""
        with self.writer(seed, count=count, **options) as process:
            assert process.wait(PATIENCE) == 0


@contextlib.contextmanager
def small_cluster(folder: Path) -> Iterator[SmallCluster]:
    """A running small cluster for the length of a ``with`` block."""
    cluster = SmallCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
