"""How ``bin/cluster browse`` ends: whenever it is told to, with all cleaned up."""

import argparse
import contextlib
import os
import signal
from types import SimpleNamespace

import pytest

from tidstorage.commands import browse, console
from tidstorage.errors import NotReady


class Process:
    """The Zope that shows the past; its end is up to the test."""

    def __init__(self, end):
        self.wait = end


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Browses with a Zope that is none; the exit status.  All is cleaned up."""
    ended = []

    @contextlib.contextmanager
    def entered(name, value):
        try:
            yield value
        finally:
            ended.append(name)

    def run(wait):
        served = SimpleNamespace(
            url="http://127.0.0.1/", user="browse", password="-", process=Process(wait)
        )
        made = SimpleNamespace(folder=tmp_path)
        zope = SimpleNamespace(
            choose=lambda *_: None, serving=lambda *_: entered("zope", served)
        )
        monkeypatch.setattr(browse, "zope", zope)
        monkeypatch.setattr(
            browse.scratch, "folder", lambda _cluster: entered("folder", made)
        )
        monkeypatch.setattr(browse, "restore_elsewhere", lambda *_: None)
        monkeypatch.setattr(browse.restore_report, "as_json", lambda _report: {})
        parser = argparse.ArgumentParser()
        browse.add_arguments(parser)
        try:
            return browse.run(parser.parse_args(["--json"]), None)
        finally:
            assert ended == ["zope", "folder"]

    return run


def terminate(*_):
    os.kill(os.getpid(), signal.SIGTERM)


def test_ended_while_it_waits(run):
    assert run(terminate) == 0


def test_ended_as_soon_as_the_address_is_told(run, monkeypatch):
    """It was read, and SIGTERM came before the waiting for it had begun."""
    waited = []
    monkeypatch.setattr(console, "print_json", terminate)
    assert run(lambda: waited.append(True)) == 0
    assert not waited


def test_a_zope_that_ends_by_itself_is_an_error(run):
    with pytest.raises(NotReady, match="ended with status 3"):
        run(lambda: 3)
