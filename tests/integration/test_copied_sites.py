"""A site that was copied with its folder harms neither the original nor its backups."""

import subprocess
from pathlib import Path

import pytest
from built_clusters import ScratchCluster, scratch_cluster

from tidstorage.errors import OtherHistory

pytestmark = pytest.mark.integration

STATUS = OtherHistory.exit_status


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(folder / "bin/cluster"), *arguments]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Of every generated file."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("bin", "etc")
        for path in (folder / part).glob("*")
    }


def copy(site: ScratchCluster, target: Path) -> ScratchCluster:
    subprocess.run(["cp", "-a", site.folder, target], check=True)
    return ScratchCluster(target)


def test_a_build_in_the_copy_leaves_the_original_alone(tmp_path: Path) -> None:
    site = scratch_cluster(tmp_path / "site")
    assert site.build().returncode == 0
    before = contents(site.folder)
    other = copy(site, tmp_path / "copy")
    built = other.build()
    assert built.returncode == 0, built.stderr
    assert contents(site.folder) == before
    assert set(contents(other.folder)) == set(before)
    assert f"is a copy of {site.folder}" in built.stdout + built.stderr
    script = (other.folder / "bin/cluster").read_text()
    assert str(other.file) in script and str(site.file) not in script


def test_scripts_of_the_copy_do_not_work_on_the_original(tmp_path: Path) -> None:
    site = scratch_cluster(tmp_path / "site")
    assert site.build().returncode == 0
    other = copy(site, tmp_path / "copy")
    refused = run_in(other.folder, "stop")
    assert refused.returncode == STATUS
    assert str(site.file) in refused.stderr and "bin/buildout" in refused.stderr
    assert run_in(site.folder, "stop").returncode == 0
