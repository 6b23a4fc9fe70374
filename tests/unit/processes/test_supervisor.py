"""Calls to a supervisord that has not yet noticed what happened."""

import types
import xmlrpc.client
from pathlib import Path
from typing import Any

import pytest

from tidstorage.cluster.load import load_cluster
from tidstorage.processes import supervisor

STILL_RUNNING = xmlrpc.client.Fault(91, "STILL_RUNNING: zope-web")
BAD_NAME = xmlrpc.client.Fault(10, "BAD_NAME: zope-web")


@pytest.fixture
def supervised(tmp_path: Path) -> supervisor.Supervisor:
    path = tmp_path / "cluster.toml"
    path.write_text('[[storage]]\nid = "root"\nmount-point = "/"\n')
    return supervisor.Supervisor(load_cluster(path))


def answers(
    supervised: supervisor.Supervisor, faults: list[xmlrpc.client.Fault]
) -> list[str]:
    """Let removeProcessGroup raise each of the faults, then work; its calls."""
    calls: list[str] = []

    def remove(name: str) -> None:
        calls.append(name)
        if faults:
            raise faults.pop(0)

    stand_in: Any = types.SimpleNamespace(
        supervisor=types.SimpleNamespace(removeProcessGroup=remove)
    )
    supervised._proxy = stand_in
    return calls


def test_the_end_of_a_program_is_noticed_late(
    supervised: supervisor.Supervisor,
) -> None:
    calls = answers(supervised, [STILL_RUNNING, STILL_RUNNING])
    supervised.remove("zope-web")
    assert calls == ["zope-web"] * 3


def test_another_fault_is_not_waited_out(supervised: supervisor.Supervisor) -> None:
    calls = answers(supervised, [BAD_NAME])
    with pytest.raises(xmlrpc.client.Fault, match="BAD_NAME"):
        supervised.remove("zope-web")
    assert calls == ["zope-web"]


def test_a_program_that_stays_is_given_up(
    supervised: supervisor.Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_NOTICE_SECONDS", 0.2)
    answers(supervised, [STILL_RUNNING] * 1000)
    with pytest.raises(xmlrpc.client.Fault, match="STILL_RUNNING"):
        supervised.remove("zope-web")
