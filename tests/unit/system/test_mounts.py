"""Mounts are told apart also where the device number is the same."""

import os
import subprocess

import pytest

from tidstorage.system import mounts

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@pytest.fixture
def bound(tmp_path):
    """A folder whose content is another one's of the same file system."""
    folder, source = tmp_path / "with a blank", tmp_path / "source"
    folder.mkdir()
    source.mkdir()
    command = ["mount", "--bind", source, folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@ROOT_ONLY
def test_a_bind_mount_is_a_mount_of_its_own(bound, tmp_path):
    assert bound.stat().st_dev == tmp_path.stat().st_dev
    assert not mounts.are_on_one_mount(bound, tmp_path)
    assert mounts.is_mount_point(bound)
    assert mounts.find_mount_points_below(tmp_path) == [bound]
    (tmp_path / "link").symlink_to(bound)
    assert mounts.is_mount_point(tmp_path / "link")
    with pytest.raises(OSError, match="busy"):
        bound.rename(tmp_path / "elsewhere")


def test_a_plain_folder_is_none(tmp_path):
    (tmp_path / "plain").mkdir()
    assert mounts.are_on_one_mount(tmp_path / "plain", tmp_path)
    assert not mounts.is_mount_point(tmp_path / "plain")
    assert mounts.find_mount_points_below(tmp_path) == []


def test_without_proc_the_device_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "none")
    assert mounts.find_mount_points_below(tmp_path) == []
