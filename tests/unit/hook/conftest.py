"""Sites whose databases are closed after each test, and no hook left installed."""

import pytest
import transaction
from hooked_site import IDS, Site, sites

import tidstorage


@pytest.fixture(autouse=True)
def clean():
    yield
    transaction.abort()
    for site in sites:
        site.close()
    sites.clear()
    tidstorage.uninstall()


@pytest.fixture
def site(tmp_path):
    tidstorage.install(ids=IDS)
    site = Site(tmp_path, "main", "catalog")
    yield site
    site.close()


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
