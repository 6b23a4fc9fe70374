"""Installing the hook over ZODB's methods, and taking it away again."""

from hooked_site import IDS, Site
from transaction._transaction import Transaction

import tidstorage
from tidstorage.hook import hook


def test_installing_twice_patches_once_and_takes_the_second_configuration(tmp_path):
    plain = Transaction.__dict__["_commitResources"]
    site = Site(tmp_path, "main", "catalog")
    tidstorage.install(ids=IDS)
    patched = Transaction.__dict__["_commitResources"]
    tidstorage.install(ids={"main": "other"})
    assert Transaction.__dict__["_commitResources"] is patched is not plain
    site.write("main", "catalog")
    assert site.last("main")[1].participants == {"other"}
    assert tidstorage.statistics()["stamped"] == 1
    tidstorage.uninstall()
    tidstorage.uninstall()
    assert Transaction.__dict__["_commitResources"] is plain
    site.write("main", "catalog")
    assert site.last("main")[1] is None
    assert tidstorage.statistics() == {}
    site.close()


def test_uninstalling_restores_every_method(tmp_path):
    def methods():
        return [each._owner.__dict__[each._name] for each in hook._patches]

    before = methods()
    tidstorage.install()
    assert not set(before) & set(methods())
    tidstorage.uninstall()
    assert methods() == before


def test_uninstalling_under_a_later_patch_is_quiet_and_not_final(site, monkeypatch):
    ours = Transaction._commitResources
    calls = []

    def later(self):
        calls.append(self)
        ours(self)

    monkeypatch.setattr(Transaction, "_commitResources", later)
    tidstorage.uninstall()
    site.write("main")
    assert site.last("main")[1] is None
    tidstorage.install(ids=IDS)
    site.write("main")
    assert site.last("main")[1] is not None
    assert len(calls) == 2
