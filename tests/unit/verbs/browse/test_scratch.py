"""Folders of scratch restores: kept while in use, removed when nobody is left."""

import argparse
import subprocess
import sys

import pytest

from tidstorage.system import child
from tidstorage.verbs.browse import scratch

USER = """
import argparse, pathlib, sys
from tidstorage.verbs.browse import scratch
cluster = argparse.Namespace(directory=pathlib.Path(sys.argv[1]))
with scratch.folder(cluster) as made:
    print(made.folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def cluster(tmp_path):
    return argparse.Namespace(directory=tmp_path)


def test_one_in_use_stays_until_its_user_is_killed(cluster):
    user = subprocess.Popen(
        [sys.executable, "-c", USER, str(cluster.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child.environment(),
        text=True,
    )
    try:
        other = cluster.directory / user.stdout.readline().strip()
        with scratch.folder(cluster) as made:
            assert other.is_dir() and made.folder != other
        assert not made.folder.exists() and other.is_dir()
    finally:
        user.kill()
        user.wait()
        user.stdin.close()
        user.stdout.close()
    assert other.is_dir()
    with scratch.folder(cluster):
        assert not other.exists()


def test_what_was_left_amid_its_making_or_removal_goes_too(cluster):
    left = scratch.parent_of(cluster) / "left"
    left.mkdir(parents=True)
    (left / "Data.fs").touch()
    elsewhere = cluster.directory / "elsewhere"
    elsewhere.mkdir()
    (scratch.parent_of(cluster) / "link").symlink_to(elsewhere)
    with scratch.folder(cluster) as made:
        assert [each.name for each in made.folder.iterdir()] == ["in-use.lock"]
        assert not left.exists() and elsewhere.is_dir()
