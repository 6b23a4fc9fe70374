"""Which databases the hook counts as the cluster's, and what it knows them by."""

import gc
import logging
import os
import signal
import weakref

import pytest
import transaction
import ZODB
from hooked_site import IDS, Site
from ZODB.blob import BlobStorage
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

import tidstorage
from tidstorage.coherence import tid
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


def vector(site, name="main"):
    """What the last record of a database tells of what was seen before."""
    return site.last(name)[1].vector


def last_bound(site, name):
    return site.last(name)[0] + 1


def count_up(site, name):
    with site.databases[name].transaction() as connection:
        connection.root()["count"] = connection.root().get("count", 0) + 1


def test_what_was_seen_of_a_closed_database_stays(site):
    site.write("main")
    # Nothing is stamped between this and the close.
    site.databases["catalog"].undo(
        site.databases["catalog"].undoLog(0, 1)[0]["id"], transaction.get()
    )
    transaction.commit()
    site.databases["catalog"].close()
    for _ in range(2):
        site.write("main")
        assert vector(site)["catalog"] == last_bound(site, "catalog")


def test_a_database_is_closed_before_the_first_commit(tmp_path):
    Site(tmp_path, "catalog").close()
    tidstorage.install(ids=IDS)
    Site(tmp_path, "catalog").close()
    site = Site(tmp_path, "main")
    site.write("main")
    assert vector(site)["catalog"] == last_bound(site, "catalog")


def test_several_databases_after_each_other(tmp_path):
    names = ("one", "two", "main")
    tidstorage.install(ids={name: name for name in names})
    for name in names:
        site = Site(tmp_path, name)
        count_up(site, name)
        last = vector(site, name)
        site.close()
    for name in ("one", "two"):
        assert last[name] == last_bound(site, name)


def test_a_database_that_is_opened_again_goes_on_from_what_was_seen(
    tmp_path, monkeypatch
):
    tidstorage.install(ids=IDS)
    site, apart = Site(tmp_path, "main"), Site(tmp_path, "catalog")
    count_up(apart, "catalog")
    seen = last_bound(apart, "catalog")
    apart.close()
    catalog = FileStorage(str(tmp_path / "catalog.fs"))
    # As a ZEO client that has not caught up yet.
    first = tid.to_bytes(apart.records("catalog")[0][0])
    monkeypatch.setattr(catalog, "lastTransaction", lambda: first)
    database = ZODB.DB(catalog, database_name="catalog")
    site.write("main")
    assert vector(site)["catalog"] == seen
    storages = hook._active.databases.list_open().storages
    assert sorted(each.storage_id for each in storages) == ["catalog", "root"]
    monkeypatch.undo()
    with database.transaction() as connection:
        connection.root()["y"] = 1
    database.close()
    site.write("main")
    assert vector(site)["catalog"] == last_bound(apart, "catalog") > seen


def test_a_connection_that_was_ahead_of_its_storage_counts_after_the_close(site):
    # ZEO tells connections of a transaction before its last TID moves.
    connection = site.databases["catalog"].open()
    ahead = tid.from_bytes(connection._normal_storage._start) + 1_000
    connection._normal_storage._start = tid.to_bytes(ahead)
    site.databases["catalog"].close()
    site.write("main")
    assert vector(site)["catalog"] == ahead


def test_the_storage_of_a_database_that_was_never_closed(tmp_path):
    tidstorage.install(ids=IDS)
    site = Site(tmp_path, "main")
    apart = Site(tmp_path, "catalog")
    apart.databases["catalog"].storage.close()
    apart.databases.clear()
    gc.collect()
    site.write("main")
    assert vector(site)["catalog"] == last_bound(apart, "catalog")


def test_what_has_no_clear_id_leaves_nothing(tmp_path):
    tidstorage.install()
    one, two = Site(tmp_path / "one", "main"), Site(tmp_path / "two", "main")
    one.write("main")
    two.close()
    one.write("main")
    assert vector(one)["main"] <= last_bound(one, "main")
    one.close()


def test_a_second_install_knows_what_was_seen_under_the_same_ids(site):
    site.databases["catalog"].close()
    tidstorage.install(ids=dict(IDS))
    site.write("main")
    assert vector(site)["catalog"] == last_bound(site, "catalog")
    tidstorage.install(ids={"main": "root"})
    site.write("main")
    assert set(vector(site)) == {"root"}
    tidstorage.uninstall()
    tidstorage.install(ids=dict(IDS))
    site.write("main")
    assert set(vector(site)) == {"root"}


def test_a_forked_child_has_seen_what_its_parent_saw(site):
    site.databases["catalog"].close()
    child = os.fork()
    if not child:
        signal.alarm(120)
        try:
            site.write("main")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert vector(site)["catalog"] == last_bound(site, "catalog")


def test_databases_are_not_kept_alive(tmp_path):
    tidstorage.install(ids=IDS)
    site = Site(tmp_path, "main")
    site.write("main")
    known = hook._active.databases
    assert len(known.list_open().storages) == 1
    reference = weakref.ref(site.databases["main"].storage)
    site.databases["main"].storage.close()
    site.databases.clear()
    gc.collect()
    assert not known.list_open().by_database
    gc.collect()
    assert reference() is None
