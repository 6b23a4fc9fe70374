"""Restores that stop the cluster and start it again; what is down if they fail."""

import argparse
import dataclasses

import pytest
from restored import check_restored, contents, failing

from tidstorage.commands import restore as verb
from tidstorage.errors import (
    NoSpace,
    NoSuchSet,
    NotCoherent,
    NotReady,
)
from tidstorage.system import disks
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore import around, assemble
from tidstorage.verbs.restore.plan import Request

pytestmark = pytest.mark.integration


def test_stop_stops_restores_and_starts(small, monkeypatch):
    cluster = small.cluster()
    small.write(1, 4)
    made = back_up(cluster)
    small.write(2, 4)
    calls = []
    processes = argparse.Namespace(
        stop=lambda cluster, **options: (calls.append("stop"), small.stop()),
        start=lambda cluster, **options: (calls.append("start"), small.start()),
        list_running=small.running_parts,
    )
    monkeypatch.setattr(around, "control", processes)
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    with pytest.raises(NoSuchSet):
        verb.run(parser.parse_args(["--stop", "--set", "nothing"]), cluster)
    assert calls == [], "stopped for nothing"
    assert verb.run(parser.parse_args(["--stop", "--json"]), cluster) == 0
    assert calls == ["stop", "start"]
    small.stop()
    check_restored(cluster, made)


class FailingProcesses:
    """Parts that stop, as far as they are told to, and do not start again."""

    def __init__(self, stops):
        self.parts = ["Zope web-1", "ZEO server alpha"]
        self.stops = stops

    def list_running(self, cluster):
        return list(self.parts)

    def stop(self, cluster, **options):
        del self.parts[: self.stops]
        if self.parts:
            raise NotReady("cannot be ended: ZEO server alpha", "It hangs.")

    def start(self, cluster, **options):
        raise NotReady("Zope web is not ready", "Look at its log.")


def test_a_start_that_fails_hides_nothing_of_the_restore(lost, monkeypatch):
    cluster, made = lost
    monkeypatch.setattr(around, "control", FailingProcesses(stops=2))
    before = contents(cluster)
    with monkeypatch.context() as patched:
        patched.setattr(assemble, "_append", failing(OSError(28, "No space left")))
        with pytest.raises(NoSpace) as failed:
            around.restore(cluster, Request(), None, True, print)
    assert "Nor did the cluster start: Zope web is not ready" in failed.value.hint
    assert "Now down: Zope web-1, ZEO server alpha" in failed.value.hint
    assert "bin/cluster start" in failed.value.hint
    assert contents(cluster) == before
    monkeypatch.setattr(around, "control", FailingProcesses(stops=2))
    with pytest.raises(NotReady) as caught:
        around.restore(cluster, Request(), None, True, print)
    assert "Look at its log." in caught.value.hint
    assert f"The restore itself is done: set {made.id}" in caught.value.hint
    assert ".before-restore-" in caught.value.hint
    assert "Now down: Zope web-1, ZEO server alpha" in caught.value.hint


def test_a_stop_that_fails_half_way_says_what_is_down(lost, monkeypatch):
    cluster, _ = lost
    before = contents(cluster)
    monkeypatch.setattr(around, "control", FailingProcesses(stops=1))
    with pytest.raises(NotReady, match="cannot be ended") as caught:
        around.restore(cluster, Request(), None, True, print)
    assert "Now down: Zope web-1; bin/cluster start" in caught.value.hint
    assert contents(cluster) == before


def test_an_interruption_amid_the_stop_says_what_is_down(lost, monkeypatch):
    cluster, _ = lost
    processes = FailingProcesses(stops=1)

    def interrupted(cluster, **options):
        processes.parts.remove("Zope web-1")
        raise KeyboardInterrupt

    processes.stop = interrupted
    monkeypatch.setattr(around, "control", processes)
    told = []
    with pytest.raises(KeyboardInterrupt):
        around.restore(cluster, Request(), None, True, told.append)
    assert told == ["Now down: Zope web-1; bin/cluster start starts what is down."]


def test_an_interruption_amid_the_start_hides_nothing(lost, monkeypatch):
    cluster, made = lost
    processes = FailingProcesses(stops=2)
    processes.start = failing(KeyboardInterrupt())
    monkeypatch.setattr(around, "control", processes)
    told = []
    with pytest.raises(KeyboardInterrupt):
        around.restore(cluster, Request(), None, True, told.append)
    assert f"The restore itself is done: set {made.id}" in told[0]
    assert "Now down: Zope web-1, ZEO server alpha" in told[1]


def test_what_cannot_be_restored_stops_nothing(lost, monkeypatch):
    cluster, _ = lost
    processes = FailingProcesses(stops=2)
    monkeypatch.setattr(around, "control", processes)
    fewer = dataclasses.replace(cluster, storages=cluster.storages[:2])
    with pytest.raises(NotCoherent, match="has storages that the cluster has not"):
        around.restore(fewer, Request(), None, True, print)
    monkeypatch.setattr(
        disks.shutil, "disk_usage", lambda path: argparse.Namespace(free=10)
    )
    with pytest.raises(NoSpace):
        around.restore(cluster, Request(), None, True, print)
    assert len(processes.parts) == 2
