"""What the commands share: numbers on the command line, the cluster's user."""

import argparse
import importlib.util

import pytest

from tidstorage.commands import cluster, front, start, stop
from tidstorage.commands.scripts import repozo, serve
from tidstorage.errors import UnknownPart


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", ""])
def test_no_number_of_seconds(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected seconds, 0 or more"):
        front.parse_seconds(text)


def test_a_number_has_bounds():
    assert front.parse_number("0", "days", 10) == 0
    assert front.parse_number("10", "days", 10) == 10
    with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 10, not '11'"):
        front.parse_number("11", "days", 10)
    with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 10, not 'nan'"):
        front.parse_number("nan", "days", 10)


@pytest.mark.parametrize("verb", [start, stop])
def test_a_timeout_that_never_comes_is_refused(verb, capsys):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    assert parser.parse_args(["--timeout", "2.5"]).timeout == 2.5
    with pytest.raises(SystemExit):
        parser.parse_args(["--timeout", "nan"])
    assert "expected seconds" in capsys.readouterr().err


def test_a_server_that_root_starts_runs_as_the_clusters_user(tmp_path, monkeypatch):
    description = tmp_path / "cluster.toml"
    description.write_text(
        '[cluster]\nuser = "nobody"\n[[zeo]]\nname = "main"\n'
        '[[storage]]\nid = "root"\nmount-point = "/"\n'
    )
    left = []
    monkeypatch.setattr(front.users, "leave_root", left.append)
    status = serve.main(["--cluster-file", str(description), "other"])
    assert status == UnknownPart.exit_status
    assert left == ["nobody"]


def test_cron_restores_nothing(capsys):
    with pytest.raises(SystemExit):
        repozo.main(["--scheduled", "--recover"])
    assert "--scheduled is for a backup" in capsys.readouterr().err


def test_every_verb_has_a_module():
    for verb in cluster.VERBS:
        assert importlib.util.find_spec(f"tidstorage.commands.{verb}"), verb
