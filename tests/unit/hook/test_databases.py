"""Which databases the hook counts as the cluster's, and what it knows them by."""

import gc
import logging

import pytest
from hooked_site import IDS, Site
from ZODB.blob import BlobStorage
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

import tidstorage
from tidstorage.hook import hook


def test_a_database_that_is_not_listed_is_left_alone_and_named_once(tmp_path, caplog):
    tidstorage.install(ids=IDS)
    site = Site(tmp_path, "main", "catalog", "sessions")
    site.write("main", "sessions")
    site.write("sessions")
    assert site.last("main")[1].participants == {"root"}
    assert "sessions" not in site.last("main")[1].vector
    assert site.last("sessions")[1] is None
    assert caplog.text.count("'sessions' is none of the cluster's") == 1
    site.close()


def test_storages_that_keep_nothing_are_no_members(tmp_path, caplog):
    tidstorage.install()
    site = Site(tmp_path, "main")
    base = FileStorage(str(tmp_path / "base.fs"))
    site.open("mapping", MappingStorage())
    site.open("blobs", BlobStorage(str(tmp_path / "blobs"), MappingStorage()))
    site.open("demo", DemoStorage(base=base))
    site.write("main", "mapping", "blobs", "demo")
    assert site.last("main")[1].participants == {"main"}
    assert set(site.last("main")[1].vector) == {"main"}
    assert not caplog.records
    site.close()


def test_two_databases_of_one_name_stop_stamping_until_one_is_closed(tmp_path, caplog):
    tidstorage.install()
    one, two = Site(tmp_path / "one", "main"), Site(tmp_path / "two", "main")
    one.write("main")
    one.write("main")
    assert one.last("main")[1] is None
    assert caplog.text.count("have one storage id, 'main'") == 1
    assert caplog.records[-1].levelno == logging.ERROR
    two.close()
    one.write("main")
    assert one.last("main")[1].participants == {"main"}
    one.close()


@pytest.mark.parametrize(
    "ids",
    [
        {"main": "root", "catalog": "root"},
        {"main": ""},
        {"main": "x" * 128},
        {"main": "a\nb"},
    ],
)
def test_ids_that_cannot_be(ids):
    with pytest.raises(ValueError, match="storage id"):
        tidstorage.install(ids=ids)
    assert hook._active is None


@pytest.mark.parametrize("address", [("", 1), ("localhost", 0), ("localhost", 70_000)])
def test_addresses_that_cannot_be(address):
    with pytest.raises(ValueError, match="no address"):
        tidstorage.install(address)


def test_databases_that_were_open_before_are_found(tmp_path):
    site, apart = Site(tmp_path, "main"), Site(tmp_path, "catalog")
    tidstorage.install(ids=IDS)
    site.write("main")
    assert set(site.last("main")[1].vector) == {"root", "catalog"}
    site.close()
    apart.close()


def test_databases_that_the_collector_hides_are_found_when_they_join(tmp_path):
    site = Site(tmp_path, "main", "catalog")
    gc.collect()
    gc.freeze()
    try:
        tidstorage.install(ids=IDS)
    finally:
        gc.unfreeze()
    assert not hook._active.databases.list_open().storages
    site.write("main")
    assert set(site.last("main")[1].vector) == {"root", "catalog"}
    site.close()


def test_closed_and_forgotten_databases_leave_the_vector(site):
    site.databases["catalog"].close()
    site.write("main")
    assert set(site.last("main")[1].vector) == {"root"}


def test_databases_are_not_kept_alive(tmp_path):
    tidstorage.install(ids=IDS)
    site = Site(tmp_path, "main")
    site.write("main")
    known = hook._active.databases
    assert len(known.list_open().storages) == 1
    site.databases["main"].storage.close()
    site.databases.clear()
    gc.collect()
    assert not known.list_open().storages
