"""Scratch clusters for tests: a folder with cluster.toml on free ports, built.

Built by the real buildout of this interpreter's environment, offline.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from real_processes import PATIENCE, free_port

from tidstorage.cluster.cluster import Cluster
from tidstorage.cluster.load import load_cluster
from tidstorage.deployment import install
from tidstorage.processes import control, running
from tidstorage.processes.process import list_processes
from tidstorage.system import proc

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass
class ScratchCluster:
    """A cluster's folder; change the attributes, then ``describe`` and ``build``.

    zeos: {server: port}.  storages: {id: (server, whether it keeps blobs)}, the
    root first.  zopes: {name: port}.
    """

    folder: Path
    zeos: dict[str, int] = field(default_factory=dict)
    storages: dict[str, tuple[str, bool]] = field(default_factory=dict)
    zopes: dict[str, int] = field(default_factory=dict)
    daemon_port: int = 0
    additional: str = ""

    @property
    def file(self) -> Path:
        return self.folder / "cluster.toml"

    def text(self) -> str:
        """The description."""
        lines = ['[cluster]\nname = "scratch"\n']
        for name, port in self.zeos.items():
            lines.append(f'[[zeo]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\n')
        for number, (storage, (server, blobs)) in enumerate(self.storages.items()):
            lines.append(f'[[storage]]\nid = "{storage}"\nzeo = "{server}"')
            if number == 0:
                lines.append('mount-point = "/"')
            if blobs:
                lines.append("blobs = true")
            lines.append("")
        for name, port in self.zopes.items():
            lines.append(f'[[zope]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\n')
        lines.append(f'[tidstorage]\naddress = "127.0.0.1:{self.daemon_port}"\n')
        return "\n".join(lines) + self.additional

    def describe(self) -> None:
        """Write cluster.toml, and a buildout.cfg that points at it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(self.text())
        (self.folder / "buildout.cfg").write_text(
            "[buildout]\n"
            f"extends = {CHECKOUT / 'versions.cfg'}\n"
            "parts = cluster\n"
            "[cluster]\n"
            "recipe = tidstorage.recipe\n"
        )

    def build(
        self, *options: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run buildout to its end; what it said and its exit status."""
        return subprocess.run(
            [Path(sys.executable).with_name("buildout"), *(options or ("-o",))],
            cwd=self.folder,
            env={**os.environ, **environment},
            text=True,
            capture_output=True,
        )

    def installed(self) -> set[str]:
        """Every file below etc/ and bin/, relative to the folder."""
        return {
            str(path.relative_to(self.folder))
            for part in ("etc", "bin")
            for path in (self.folder / part).glob("*")
        }


def scratch_cluster(folder: Path) -> ScratchCluster:
    """Two servers, three storages (one with blobs), two Zopes, described."""
    cluster = ScratchCluster(
        folder,
        zeos={"alpha": free_port(), "beta": free_port()},
        storages={
            "root": ("alpha", False),
            "catalog": ("alpha", False),
            "media": ("beta", True),
        },
        zopes={"web-1": free_port(), "web-2": free_port()},
        daemon_port=free_port(),
    )
    cluster.describe()
    return cluster


class Deployed:
    """A scratch cluster with its files written, and what was told of it."""

    def __init__(self, folder: Path) -> None:
        self.scratch: ScratchCluster = scratch_cluster(folder)
        self.told: list[str] = []
        self.deploy()

    def deploy(self) -> None:
        """Write everything anew, as bin/buildout does."""
        self.scratch.describe()
        self.cluster: Cluster = load_cluster(self.scratch.file)
        install.write_files(self.cluster)

    def start(self, *names: str, seconds: float = 2 * PATIENCE) -> list[str]:
        return control.start(
            self.cluster, names or None, tell=self.told.append, seconds=seconds
        )

    def stop(self, *names: str) -> list[str]:
        return control.stop(self.cluster, names or None, tell=self.told.append)

    def pids(self) -> dict[str, int]:
        """{program: its one pid} of all that runs."""
        found = running.find_pids(list_processes(self.cluster))
        assert all(len(each) == 1 for each in found.values()), found
        return {program: each[0] for program, each in found.items()}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """bin/cluster."""
        return subprocess.run(
            [self.cluster.bin_directory / "cluster", *arguments],
            text=True,
            capture_output=True,
        )

    def processes(self) -> list[str]:
        """Command lines of all processes that name the cluster's folder."""
        lines = {pid: " ".join(proc.command_line(pid)) for pid in proc.all_pids()}
        return [
            line
            for pid, line in lines.items()
            if f"{self.scratch.folder}/" in line and proc.is_alive(pid)
        ]


@contextlib.contextmanager
def deployed_in(folder: Path) -> Iterator[Deployed]:
    deployed = Deployed(folder)
    try:
        yield deployed
    finally:
        deployed.stop()
