"""The bank of the demonstration can be imported in its scratch clusters alone."""

import pkgutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import tidstorage
from tidstorage.demo import checker, scratch_cluster

CHECKOUT = Path(__file__).resolve().parents[2]
BANK = f"tidstorage/demo/{scratch_cluster.BANK_FOLDER.name}/{checker.BANK_MODULE}.py"


def importable(folder):
    """Names of all modules that can be imported below a folder of packages."""
    return {
        module.name
        for module in pkgutil.walk_packages([str(folder)], onerror=lambda name: None)
    }


def test_no_package_of_the_distribution_has_a_bank():
    packages = Path(tidstorage.__file__).parent
    names = importable(packages) | importable(packages.parent / "Products/TIDStorage")
    assert "initialise" in names and "configuration" in names
    assert not {name for name in names if "bank" in name}


@pytest.mark.parametrize("module", [checker.BANK_MODULE, "Products.TIDStorage.bank"])
def test_a_zope_without_the_scratch_clusters_path_cannot_import_it(module, tmp_path):
    code = f"import Zope2, OFS.SimpleItem, {module}"
    process = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode
    assert f"No module named '{module}'" in process.stderr


def test_it_is_in_what_is_distributed(tmp_path):
    code = (
        "import sys; from setuptools import build_meta\n"
        # Each changes sys.argv.
        "folder = sys.argv[1]\n"
        "build_meta.build_sdist(folder); build_meta.build_wheel(folder)\n"
    )
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    subprocess.run(
        f"git ls-files -z | tar -c --null -T - | tar -x -C {checkout}"
        if (CHECKOUT / ".git").exists()
        else f"cp -r src templates *.toml *.rst *.txt {checkout}",
        shell=True,
        cwd=CHECKOUT,
        check=True,
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=checkout,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert BANK in zipfile.ZipFile(wheel).namelist()
    (source,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        assert any(name.endswith(BANK) for name in archive.getnames())
