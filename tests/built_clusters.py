"""Scratch clusters for tests: a folder with cluster.toml on free ports, built.

Built by the real buildout of this interpreter's environment, offline.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from real_processes import free_port

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
