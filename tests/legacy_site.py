"""A site as the original's manual has it: its configuration file, its commands.

Two ZEO servers with three storages; every id as the original's Zopes wrote it.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from daemons import RUN_DAEMON
from real_processes import ZeoServer, free_port

from tidstorage.system import child

#: A repozo that commits a transaction over all storages before it runs.
BUSY_REPOZO = f"{sys.executable} {Path(__file__).parent / 'busy_repozo.py'}"
ADDRESSES = "TIDSTORAGE_TEST_ADDRESSES"


def write_configuration(
    path: Path,
    data_files: Mapping[str, Path],
    addresses: Mapping[str, tuple[str, int]],
    port: int = 9001,
) -> dict[str, str]:
    """Write the file; {storage: its id}.  Everything is in the file's folder."""
    folder = path.parent
    ids = {
        storage: json.dumps([[list(addresses[storage])], storage])
        for storage in data_files
    }
    known = {
        ids[storage]: (str(data_file), str(folder / "repozo" / storage), storage)
        for storage, data_file in data_files.items()
    }
    crashed = {
        ids[storage]: (str(data_file), str(folder / "crashed" / f"{storage}.fs"))
        for storage, data_file in data_files.items()
    }
    (folder / "crashed").mkdir(exist_ok=True)
    path.write_text(
        "# COMMON\n"
        f"known_tid_storage_identifier_dict = {known!r}\n"
        f"port = {port}\nhost = '127.0.0.1'\n"
        "# SERVER\n"
        "logfile_name = 'tidstorage.log'\npidfile_name = 'tidstorage.pid'\n"
        "fork = False\nsetuid = None\nsetgid = None\n"
        "status_file = 'tidstorage.tid'\nburst_period = 0\nfull_dump_period = 300\n"
        "# REPOZO_TIDSTORAGE\n"
        "timestamp_file_path = 'repozo_tidstorage_timestamp.log'\n"
        f"status_file_backup_dir = {str(folder / 'status')!r}\n"
        "keep_full_backup_count = 2\n"
        f"data_fs_backup_path_dict = {crashed!r}\n"
    )
    return ids


def status_files(folder: Path) -> list[Path]:
    """The TID logs kept with the backups, oldest first."""
    return sorted((folder / "status").glob("tidstorage.tid-*"))


class LegacySite:
    """The servers are real; ``configuration`` is the file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alpha = ZeoServer(folder / "alpha", ["catalog", "root"], "alpha")
        self.beta = ZeoServer(folder / "beta", ["documents"], "beta")
        self.servers = (self.alpha, self.beta)
        self.port = free_port()
        self.configuration = folder / "tidstorage.py"
        self.status_file = folder / "tidstorage.tid"
        self.ids = write_configuration(
            self.configuration, self.data_files, self.addresses, self.port
        )

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        return {s: each.address for each in self.servers for s in each.storages}

    @property
    def data_files(self) -> dict[str, Path]:
        return {s: each.data_file(s) for each in self.servers for s in each.storages}

    def start(self) -> None:
        for server in self.servers:
            server.start()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def run(
        self, name: str, *arguments: str | Path, status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """A command of the original, to its end."""
        module = {
            "tidstorage_repozo": "tidstorage.commands.scripts.repozo",
            "tidstorage_restore": "tidstorage.commands.scripts.restore_files",
        }[name]
        done = subprocess.run(
            [*child.python(module), "-c", self.configuration, *arguments],
            env={**child.environment(), ADDRESSES: json.dumps(self.addresses)},
            cwd=self.folder,
            text=True,
            capture_output=True,
        )
        assert done.returncode == status, (done.stdout, done.stderr)
        return done

    @contextlib.contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon, run from the configuration; killed at the end."""
        with subprocess.Popen(
            [
                *RUN_DAEMON,
                "-c",
                str(self.configuration),
            ],
            env=child.environment(),
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def connected(addresses: Mapping[str, Sequence[object]]) -> dict[str, tuple[str, int]]:
    """What a child reads from ``ADDRESSES``."""
    return {each: tuple(address) for each, address in addresses.items()}  # type: ignore[misc]


def addresses_of_environment() -> dict[str, tuple[str, int]]:
    """The servers that the site told its commands' children of."""
    return connected(json.loads(os.environ[ADDRESSES]))
