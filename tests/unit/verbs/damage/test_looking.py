"""Looking for one transaction's record: found, not there, or nobody can tell."""

import contextlib
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace

import pytest
from ZEO.Exceptions import ServerException

from tidstorage.coherence import stamp, tid
from tidstorage.verbs.damage import looking
from tidstorage.verbs.damage.looking import CannotTell, look_for

COMMIT = b"0123456789abcdef"
NOWHERE = Path("nowhere")


class Server:
    """What a server tells of a storage: TIDs, of which the first were packed.

    holding: the TID of the transaction's record; None without one.
    """

    def __init__(self, tids, packed=0, holding=None):
        self.tids, self.packed, self.holding = tids, packed, holding

    def _extension(self, number):
        if number != self.holding:
            return {}
        return {stamp.KEY: stamp.encode(COMMIT, ["a", "b"], {})}

    def last_tid(self):
        return self.tids[-1]

    def newest(self, count):
        unmarked = self.tids[self.packed :][::-1]
        return [
            {"id": b64encode(tid.to_bytes(each)), **self._extension(each)}
            for each in unmarked[:count]
        ]

    @contextlib.contextmanager
    def transactions(self, start=0):
        yield iter(
            SimpleNamespace(
                tid=tid.to_bytes(each),
                extension=self._extension(each),
                status="p" if number < self.packed else " ",
            )
            for number, each in enumerate(self.tids)
            if each >= (start or 0)
        )


class Packing(Server):
    def newest(self, count):
        raise ServerException("ZODB.POSException.UndoError", ("packing",))


@pytest.fixture(params=["undo log", "one by one"], autouse=True)
def _way(request, monkeypatch):
    if request.param == "one by one":
        monkeypatch.setattr(looking, "_LARGEST_BATCH", 0)


def look(server, bound):
    found = look_for(server, NOWHERE, COMMIT, bound, {})
    return found and found.tid


def test_it_is_there():
    assert look(Server([2, 5, 8], holding=5), 3) == 5
    # A pack has left it.
    assert look(Server([2, 5, 8], packed=2, holding=5), 3) == 5


def test_it_is_not_there_and_would_be_seen():
    assert look(Server([2, 5, 8]), 3) is None
    # The pack ended before it could have come.
    assert look(Server([2, 5, 8, 9], packed=1), 6) is None
    # It was the first of the storage.
    assert look(Server([2, 5, 8]), 0) is None
    assert look(Server([2, 5, 8]), 1) is None


@pytest.mark.parametrize("packed", [1, 2, 3])
def test_a_pack_may_have_taken_it(packed):
    with pytest.raises(CannotTell, match="packed"):
        look(Server([2, 5, 8], packed), 3)


def test_what_its_writer_had_seen_is_gone():
    """A pack left nothing of it, and no mark."""
    with pytest.raises(CannotTell):
        look(Server([5, 8]), 3)


def test_a_server_that_packs_tells_later(monkeypatch):
    monkeypatch.setattr(looking, "_LARGEST_BATCH", 1000)
    with pytest.raises(CannotTell, match="is packing it now"):
        look(Packing([2, 5, 8]), 3)
