"""The scratch cluster of the demonstration: the default one, on free ports."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tidstorage.cluster.cluster import Cluster, Zeo, Zope
from tidstorage.cluster.load import load_cluster
from tidstorage.demo import checker
from tidstorage.deployment import install
from tidstorage.engines import filestorage
from tidstorage.errors import DemonstrationFailed
from tidstorage.processes import control
from tidstorage.system import child, proc

#: The bank's folder: not a package, so that no other Zope can import the bank.
BANK_FOLDER = Path(__file__).with_name("scratch-zope")
ACCOUNTS = 12
#: Zopes with so many threads each, and a customer for each thread.
THREADS = 4
#: Seconds for which a server stands still, and runs again.
_HANG = 0.1
_MOST_STOPS = 30
_OPEN_BANK = """
import transaction
from demonstration_bank import open_bank
open_bank(app, {storages!r}, {accounts}, {balance})
transaction.commit()
"""
_DESCRIPTION = """
[cluster]
name = "demonstration"
[[zeo]]
name = "alpha"
address = "127.0.0.1:{ports[0]}"
[[zeo]]
name = "beta"
address = "127.0.0.1:{ports[1]}"
[[storage]]
id = "root"
zeo = "alpha"
mount-point = "/"
[[storage]]
id = "catalog"
zeo = "alpha"
[[storage]]
id = "documents"
zeo = "beta"
[[storage]]
id = "media"
zeo = "beta"
blobs = true
[[zope]]
name = "web-1"
address = "127.0.0.1:{ports[2]}"
threads = {threads}
[[zope]]
name = "web-2"
address = "127.0.0.1:{ports[3]}"
threads = {threads}
[tidstorage]
address = "127.0.0.1:{ports[4]}"
[backup]
schedule = "never"
"""


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Run a cluster with a bank in an empty folder, in the ``with`` block."""
    file = folder / "cluster.toml"
    file.write_text(_DESCRIPTION.format(ports=proc.free_ports(5), threads=THREADS))
    cluster = load_cluster(file)
    install.write_files(cluster, zope_path=[BANK_FOLDER])
    try:
        command(cluster, "cluster", "init")
        control.start(cluster, [zeo.name for zeo in cluster.zeos])
        _open_bank(cluster)
        control.start(cluster)
        yield cluster
    finally:
        control.stop(cluster)


def _open_bank(cluster: Cluster) -> None:
    script = cluster.directory / "open_bank.py"
    storages = [storage.id for storage in cluster.storages]
    script.write_text(
        _OPEN_BANK.format(
            storages=storages, accounts=ACCOUNTS, balance=checker.OPENING_BALANCE
        )
    )
    command(cluster, f"zope-{cluster.zopes[0].name}-console", "run", str(script))


def expected_money(cluster: Cluster) -> int:
    """All the money of the bank, which no transfer changes."""
    return len(cluster.storages) * ACCOUNTS * checker.OPENING_BALANCE


def data_files(cluster: Cluster) -> dict[str, Path]:
    """{storage id: its live Data.fs}"""
    return {storage.id: storage.data_file for storage in cluster.storages}


def command(cluster: Cluster, script: str, *arguments: str) -> None:
    """Run one of the cluster's scripts.

    Raises: DemonstrationFailed: where it fails; with its output.
    """
    run(cluster, [str(cluster.bin_directory / script), *arguments])


def run(cluster: Cluster, arguments: Sequence[str]) -> None:
    """Run a program in the cluster's folder.

    Raises: DemonstrationFailed: where it fails; with its output.
    """
    done = subprocess.run(
        arguments,
        cwd=cluster.directory,
        env=child.environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise DemonstrationFailed(
            f"{' '.join(arguments)} ended with status {done.returncode}:\n"
            f"{done.stdout}{done.stderr}"
        )


def kill(server: Zeo | Zope) -> None:
    """SIGKILL, as a power cut or the kernel's memory killer would."""
    send_signal(server, signal.SIGKILL)


def send_signal(server: Zeo | Zope, number: signal.Signals) -> None:
    """Send a signal to the process of a server, where there is one."""
    pid = proc.pid_in(server.pid_file)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_amid_a_commit(cluster: Cluster, zeo: Zeo) -> bool:
    """SIGKILL of a server that has agreed to a commit; whether there was one.

    It is made to stand still, as in a storm of swapping, while others finish what
    it agreed to.  Where nobody did, it may go on, and the same is tried again.
    """
    marks = {
        storage.id: filestorage.last_tid(storage.data_file)
        for storage in cluster.storages
    }
    for _ in range(_MOST_STOPS):
        send_signal(zeo, signal.SIGSTOP)
        time.sleep(_HANG)
        waits = _waits_for(cluster, zeo, marks)
        if waits:
            break
        send_signal(zeo, signal.SIGCONT)
        time.sleep(_HANG)
    kill(zeo)
    return waits


def _waits_for(cluster: Cluster, zeo: Zeo, marks: Mapping[str, int]) -> bool:
    """Whether a transaction has a record elsewhere, and none yet on the server."""
    here = {storage.id for storage in cluster.storages_of(zeo.name)}
    held = {
        (storage.id, record.stamp.commit_id)
        for storage in cluster.storages_of(zeo.name)
        for record in filestorage.read_records(storage.data_file)
        if record.stamp is not None
    }
    return any(
        (participant, record.stamp.commit_id) not in held
        for storage in cluster.storages
        if storage.id not in here
        for record in filestorage.read_records(storage.data_file, marks[storage.id])
        if record.stamp is not None
        for participant in record.stamp.participants & here
    )
