"""What holds for all tests with real servers."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import DaemonProcess, running_daemon
from observed_site import Site
from real_processes import PATIENCE
from small_cluster import small_cluster
from torn_files import coherent_files

from tidstorage.verbs.backup.backup import back_up
from tidstorage.zeo import barrier


@pytest.fixture(scope="session", autouse=True)
def _patient_barriers():
    """Servers that have much else to do are no reason to do without a barrier.

    Only in this process, and where a test does not say for how long.
    """
    with pytest.MonkeyPatch.context() as patched:
        for name in ("take", "take_instant"):
            patient = functools.partial(getattr(barrier, name), deadline=PATIENCE)
            patched.setattr(barrier, name, patient)
        patched.setattr(barrier, "CONNECT_SECONDS", PATIENCE)
        yield


@pytest.fixture
def small(tmp_path, monkeypatch):
    with small_cluster(tmp_path) as running:
        monkeypatch.setattr(
            "tidstorage.processes.running.find_running", running.running_parts
        )
        yield running


@pytest.fixture
def lost(small):
    """(cluster, its set): stopped, with more committed after the set."""
    cluster = small.cluster()
    small.write(1, 4)
    small.write(2, 6, group=["documents"])
    made = back_up(cluster)
    small.write(3, 5)
    small.stop()
    return cluster, made


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path) as running:
        yield running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def files(tmp_path):
    made = coherent_files(tmp_path / "files")
    yield made
    made.close()
