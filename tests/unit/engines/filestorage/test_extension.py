"""Stamps in the extensions of transactions, beside what others put there."""

import random

import pytest
from zodbpickle import binary, pickle

from tidstorage.coherence import stamp, tid
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage.extension import read_stamp


class Theirs:
    """What another product might leave in an extension; notes its loading."""

    called = False

    def __reduce__(self):
        return note_call, ()


def note_call():
    Theirs.called = True


class TestStamps:
    DATA = stamp.encode(b"i" * 16, ["one"], {"one": 5, "old": 9})

    def test_read_with_aliases(self, writer):
        writer.commit()
        record = [*filestorage.read_records(writer.path, aliases={"one": "new"})][-1]
        assert record.stamp.participants == {"new"}
        assert record.record.tid == record.tid

    def test_beside_what_others_put_there(self):
        pickle.loads(pickle.dumps(Theirs(), 3))
        assert Theirs.called
        Theirs.called = False
        for value in (Theirs(), tid.to_time(1 << 60), binary(b"x"), [Theirs()]):
            data = pickle.dumps({"a": value, stamp.KEY: self.DATA, "z": value}, 3)
            assert read_stamp(data, {}) == stamp.decode(self.DATA)
        assert not Theirs.called

    @pytest.mark.parametrize(
        "value", [b"", b"tids", "text", 5, None, {}, DATA[:-1], b"\2" + DATA[1:]]
    )
    def test_malformed_is_unstamped(self, value):
        assert read_stamp(pickle.dumps({stamp.KEY: value}, 3), {}) is None

    def test_any_bytes_are_unstamped(self):
        chance = random.Random(2)
        good = pickle.dumps({stamp.KEY: self.DATA, "other": [1, 2.0, "x"]}, 3)
        assert read_stamp(good, {})
        for _ in range(2000):
            bad = bytearray(good)
            # Beyond the memo's opcodes, whose argument would be its size.
            bad[chance.randrange(len(bad))] = chance.randrange(0x72)
            read_stamp(bytes(bad), {})
            read_stamp(bytes(good[: chance.randrange(len(good))]), {})
        assert read_stamp(b"tids", {}) is None
        assert read_stamp(b"\x80\x03(tids", {}) is None
