"""The servers, the daemon and the clients of one round, and their links."""

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from daemons import Peer
from real_processes import free_port, wait_until

from tidstorage.cluster.cluster import Zeo
from tidstorage.cluster.load import load_cluster
from tidstorage.deployment import install
from tidstorage.system import child
from torture import bank, client
from torture.network import Link, Network
from torture.processes import Forked, Process, execute, fork

SERVERS = {"alpha": ("catalog", "root"), "beta": ("documents", "media")}
BLOBS = ("media",)
ADDED = "archive"
#: Seconds that whatever starts may take, on a machine that has much else to do.
PATIENCE = 120


class Client(Forked):
    """A process of load."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.name = request["name"]
        super().__init__(client.run, request)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait(30)


class Server(Process):
    """One ZEO server."""

    def __init__(self, zeo: Zeo, program: Callable[[Path], Any], folder: Path) -> None:
        assert isinstance(zeo.address, tuple)
        self.address = zeo.address
        super().__init__(zeo.name, program, folder)

    def start(self) -> None:
        super().start()
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        wait_until(self._answers, f"ZEO server {self.name} answers", PATIENCE)

    def _answers(self) -> bool:
        assert self.runs(), f"ZEO server {self.name} ended by itself"
        with contextlib.suppress(OSError):
            Peer(self.address[1]).close()
            return True
        return False


class Site:
    """All of a round, in ``folder``; what is chosen here is chosen by ``chance``."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.network = Network()
        self.served = dict(SERVERS)
        if chance.random() < 0.5:
            self.served["beta"] = BLOBS
        #: Whether a storage was added since the round began.
        self.grown = False
        self._ports = {each: free_port() for each in (*SERVERS, "daemon")}
        self.file = folder / "cluster.toml"
        self._describe()
        self.cluster = load_cluster(self.file)
        install.write_files(self.cluster)
        self.deployed = chance.random() < 0.5
        #: Whether programs are executed, as in the field, or forked.
        self.executed = chance.random() < 0.2
        self.servers = {
            each.name: Server(each, self._program_of(each), folder)
            for each in self.cluster.zeos
        }
        addresses = {each: self.servers[each].address for each in self.servers}
        self.client_links = {
            each: self.network.link(address) for each, address in addresses.items()
        }
        self.daemon_links = {
            each: self.network.link(address) for each, address in addresses.items()
        }
        self._configure_daemon()
        self.daemon = Process(
            "daemon",
            self._program(
                "tidstorage.commands.scripts.daemon",
                ["-c", str(self.cluster.daemon.configuration), "-n"],
            ),
            folder,
        )
        self.clients: dict[int, Client] = {}
        self._generations: Counter[int] = Counter()
        bank.open_accounts(self.files)

    @property
    def storages(self) -> list[str]:
        return [each.id for each in self.cluster.storages]

    @property
    def files(self) -> dict[str, Path]:
        return {each.id: each.data_file for each in self.cluster.storages}

    @property
    def blobs(self) -> dict[str, Path]:
        return {
            each.id: each.blob_directory
            for each in self.cluster.storages
            if each.blob_directory is not None
        }

    @property
    def links(self) -> list[Link]:
        return [*self.client_links.values(), *self.daemon_links.values()]

    @property
    def journal(self) -> Path:
        return self.cluster.daemon.journal

    def server_of(self, storage: str) -> Server:
        return self.servers[self.cluster.storage(storage).zeo]

    def _program_of(self, zeo: Zeo) -> Callable[[Path], Any]:
        """A server as bin/zeo-NAME starts it, or plain runzeo."""
        if not self.deployed:
            return self._program("ZEO.runzeo", ["-C", str(zeo.configuration)])
        return self._program(
            "tidstorage.commands.scripts.serve",
            ["--cluster-file", str(self.file), zeo.name],
            [str(self.cluster.bin_directory / f"zeo-{zeo.name}")],
        )

    def _program(
        self,
        module: str,
        arguments: Sequence[str],
        deployed: Sequence[str] | None = None,
    ) -> Callable[[Path], Any]:
        """deployed: the command line that does the same."""
        if not self.executed:
            return lambda output: fork(module, arguments, self.folder, output)
        command = deployed or [*child.python(module), *arguments]
        return lambda output: execute(command, self.folder, output)

    def run_cluster(self, arguments: Sequence[str], output: Path) -> Any:
        """``bin/cluster`` with these arguments, under way."""
        program = self._program(
            "tidstorage.commands.cluster",
            ["--cluster-file", str(self.file), *arguments],
            [str(self.cluster.bin_directory / "cluster"), *arguments],
        )
        return program(output)

    def _describe(self) -> None:
        text = '[cluster]\nname = "torture"\n'
        for name, storages in self.served.items():
            text += (
                f'[[zeo]]\nname = "{name}"\naddress = "127.0.0.1:{self._ports[name]}"\n'
            )
            for each in storages:
                text += f'[[storage]]\nid = "{each}"\nzeo = "{name}"\n'
                if each == "root":
                    text += 'mount-point = "/"\n'
                if each in BLOBS:
                    text += "blobs = true\n"
        text += f'[tidstorage]\naddress = "127.0.0.1:{self._ports["daemon"]}"\n'
        text += '[backup]\nschedule = "never"\n'
        self.file.write_text(text)

    def _configure_daemon(self) -> None:
        """It reaches the servers through links, and logs every point."""
        path = self.cluster.daemon.configuration
        #: Whether it can read any file, and the point beside it.
        self.daemon_sees_files = False
        lines = []
        for line in path.read_text().splitlines():
            if line.startswith("burst-period"):
                line = "burst-period 0"
            for name, server in self.servers.items():
                if line.strip() == f"server 127.0.0.1:{server.address[1]}":
                    line = f"  server 127.0.0.1:{self.daemon_links[name].address[1]}"
            # What it can read from the files it does not have to ask for.
            names_file = line.strip().startswith("path ")
            if names_file and self.chance.random() < 0.5:
                continue
            self.daemon_sees_files |= names_file
            lines.append(line)
        path.write_text("\n".join(lines) + "\n")

    def add_storage(self) -> None:
        """One more, as an operator adds it while everything is down."""
        self.grown = True
        self.served["beta"] += (ADDED,)
        self._describe()
        self.cluster = load_cluster(self.file)
        install.write_files(self.cluster)
        self._configure_daemon()
        bank.open_accounts({ADDED: self.files[ADDED]})

    def start_servers(self) -> None:
        for server in self.servers.values():
            Process.start(server)
        for server in self.servers.values():
            server.wait()

    def start_client(
        self, number: int, written: list[str], *, dies: bool = False
    ) -> None:
        """A new process, under a name that none had before.

        dies: in its first transaction over two storages, between them.
        """
        self._generations[number] += 1
        name = f"c{number}-{self._generations[number]}"
        opened = self.storages
        if not dies and self.chance.random() < 0.25:
            opened = self.chance.sample(opened, len(opened) - 1)
        request = {
            "name": name,
            "seed": self.chance.random(),
            "folder": str(self.folder),
            "daemon": (self.cluster.daemon.host, self.cluster.daemon.port),
            "storages": {
                each: self.client_links[self.cluster.storage(each).zeo].address
                for each in opened
            },
            "written": [each for each in written if each in opened],
            "blobs": [each for each in BLOBS if each in opened],
            "threads": 1 if dies else self.chance.randrange(1, 3),
            "dies": dies,
        }
        self.clients[number] = Client(request)

    def outcomes(self) -> list[list[str]]:
        """[worker, number, outcome...] of every transaction that came back."""
        return [
            line.split(maxsplit=2)
            for path in sorted(self.folder.glob("*.outcomes"))
            for line in path.read_text().splitlines()
        ]

    def dump(self) -> dict[str, int]:
        """What the daemon says; empty while it does not."""
        with contextlib.suppress(OSError):
            peer = Peer(self.cluster.daemon.port)
            try:
                return dict(peer.dump())
            finally:
                peer.close()
        return {}

    def helpers(self) -> list[int]:
        """Pids of barrier helpers that this round has started."""
        parents = {str(os.getpid()), str(self.daemon.pid)}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (
                    b"tidstorage.zeo.barrier_helper"
                    not in (entry / "cmdline").read_bytes()
                ):
                    continue
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if stat[1] in parents:
                    found.append(int(entry.name))
        return found

    def close(self) -> None:
        """End everything, at once."""
        for each in (
            *self.clients.values(),
            self.daemon,
            *self.servers.values(),
        ):
            each.kill()
        self.network.close()
