"""What an undo of a half commit would leave without its target."""

import contextlib
import datetime
from types import SimpleNamespace

import pytest
import transaction
from persistent.mapping import PersistentMapping
from torn_files import TornFiles

from tidstorage.coherence import stamp, tid
from tidstorage.coherence.point import HalfCommit
from tidstorage.errors import CannotUndo
from tidstorage.verbs.damage import findings, looking_again, referrers, undo
from tidstorage.verbs.damage.findings import Finding, Findings
from tidstorage.verbs.damage.looking_again import SecondLook

COMMIT = bytes(15) + b"\x07"


class Torn(TornFiles):
    """Storage ``a`` has an object of a transaction that ``c`` never got."""

    def __init__(self, folder):
        super().__init__(folder, "a b c")
        for written in ("a b c", "b"):
            self.commit(written)
        before = self.vector()
        self.made = PersistentMapping()
        self.connections["a"].root()["made"] = self.made
        data = stamp.encode(COMMIT, ["a", "c"], {k: v + 1 for k, v in before.items()})
        transaction.get().setExtendedInfo(stamp.KEY, data)
        transaction.commit()
        self.half = HalfCommit(COMMIT, {"a": self.last("a")}, ("c",))

    def refer(self, storage, target):
        """From an object of its own, in a storage."""
        root = self.connections[storage].root()
        root.setdefault("holder", PersistentMapping())["target"] = target
        transaction.commit()
        return storage, root["holder"]._p_oid

    def found(self):
        return [
            (each.holder, each.target)
            for each in referrers.find_referrers(self.cluster(), self.half)
        ]

    def cluster(self):
        storages = {
            each: SimpleNamespace(id=each, mount_point=f"/{each}", data_file=path)
            for each, path in self.paths.items()
        }
        return SimpleNamespace(
            storages=tuple(storages.values()), storage=storages.get, aliases={}
        )


@pytest.fixture
def files(tmp_path):
    made = Torn(tmp_path / "files")
    yield made
    made.close()


def test_nothing_refers_to_it(files):
    files.commit("a b c")
    assert files.found() == []


@pytest.mark.parametrize("storage", ["a", "b"])
def test_something_refers_to_it(files, storage):
    """In the same storage, or in another one that knows nothing of the undo."""
    holder = files.refer(storage, files.made)
    assert files.found() == [(holder, ("a", files.made._p_oid))]


def test_something_does_not_any_more(files):
    files.refer("b", files.made)
    files.refer("b", None)
    assert files.found() == []


def test_what_the_undo_takes_back_itself(files):
    """Its own holder may have been changed since: the undo merges that, or fails."""
    files.connections["a"].root()["more"] = 1
    transaction.commit()
    assert files.found() == []


def test_a_file_that_is_elsewhere(files):
    files.refer("b", files.made)
    files.close()
    files.paths["b"].rename(files.paths["b"].with_name("elsewhere"))
    assert files.found() == []


@pytest.mark.parametrize("verb", [undo.try_undo, undo.undo])
def test_no_undo_is_begun(files, verb, monkeypatch):
    """Also where its servers say that it is a half commit."""
    since = tid.to_time(files.half.present["a"])
    assert since.tzinfo is datetime.UTC
    finding = Finding(files.half, since, "", None, {})
    found = Findings([finding], None, None, ())
    monkeypatch.setattr(findings, "find", lambda cluster: found)
    monkeypatch.setattr(undo, "_connected", lambda cluster: contextlib.nullcontext({}))
    monkeypatch.setattr(
        looking_again,
        "look_again",
        lambda cluster, clients, half: SecondLook(half.present, half.missing, {}),
    )
    holder = files.refer("b", files.made)
    with pytest.raises(CannotUndo, match=f"0x{holder[1].hex()} in b refers to"):
        verb(files.cluster(), COMMIT.hex())
