"""The stamp's bytes, both ways, and the renaming of storages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidstorage.coherence import stamp
from tidstorage.coherence.stamp import MalformedStamp, Stamp, decode, encode, rename

COMMIT = bytes(range(16))
# Surrogates have no UTF-8; nothing that configures an id can contain one.
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@st.composite
def stamps(draw):
    return Stamp(
        draw(st.binary(min_size=16, max_size=16)),
        draw(st.frozensets(ids, max_size=5)),
        draw(st.dictionaries(ids, st.integers(1, 2**64 - 1), max_size=5)),
    )


def test_the_layout_is_fixed():
    """Bytes in files of years ago have to be read for ever."""
    data = encode(COMMIT, ["root"], {"root": 0x0102030405060708, "media": 7})
    assert data == (
        b"\x01"
        + COMMIT
        + b"\x84root\x01\x02\x03\x04\x05\x06\x07\x08"
        + b"\x05media\x00\x00\x00\x00\x00\x00\x00\x07"
    )


def test_a_participant_of_which_nothing_is_known():
    data = encode(COMMIT, ["root"], {})
    assert decode(data) == Stamp(COMMIT, frozenset({"root"}), {})


@given(stamps())
def test_what_is_encoded_is_decoded(given):
    data = encode(given.commit_id, given.participants, given.vector)
    assert decode(data) == given


@given(stamps(), st.data())
def test_a_stamp_that_is_cut_off_is_never_taken_for_another_length(given, data):
    """It is malformed, or ends between two storages: then it names fewer."""
    whole = encode(given.commit_id, given.participants, given.vector)
    length = data.draw(st.integers(0, len(whole) - 1))
    try:
        found = decode(whole[:length])
    except MalformedStamp:
        return
    assert encode(found.commit_id, found.participants, found.vector) != whole
    assert found.participants <= given.participants
    assert found.vector.items() <= given.vector.items()


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_malformed_or_a_stamp(data):
    try:
        found = decode(data)
    except MalformedStamp:
        return
    assert data[0] == stamp.VERSION and found.commit_id == data[1:17]


@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        b"",
        b"\x01" + COMMIT[:-1],
        b"\x02" + COMMIT,
        b"\x01" + COMMIT + b"\x00" + bytes(8),
        b"\x01" + COMMIT + b"\x04root" + bytes(7),
        b"\x01" + COMMIT + b"\x01\xff" + bytes(8),
    ],
    ids=[
        "nothing",
        "text",
        "empty",
        "short",
        "version",
        "no name",
        "cut off",
        "not UTF-8",
    ],
)
def test_malformed(data):
    with pytest.raises(MalformedStamp):
        decode(data)


def test_ids_of_127_bytes_and_no_more():
    longest = "ä" * 63 + "a"
    assert decode(encode(COMMIT, [longest], {longest: 1})).participants == {longest}
    for impossible in ("", longest + "a"):
        with pytest.raises(ValueError, match="1 to 127 bytes"):
            encode(COMMIT, [impossible], {})


def test_a_commit_id_has_16_bytes():
    with pytest.raises(ValueError, match="16 bytes"):
        encode(COMMIT[1:], [], {})


def test_sixty_storages_stay_small():
    vector = {f"storage-{n:02d}": 2**63 for n in range(60)}
    assert len(encode(COMMIT, list(vector)[:2], vector)) < 1300


def test_renaming_changes_participants_and_vector():
    given = Stamp(COMMIT, frozenset({"old", "root"}), {"old": 5, "root": 3})
    assert rename(given, {"old": "new"}) == Stamp(
        COMMIT, frozenset({"new", "root"}), {"new": 5, "root": 3}
    )


def test_renaming_to_an_id_that_is_there_too_keeps_the_higher_bound():
    """A process that was started before the renaming, and one after."""
    for vector in ({"old": 5, "new": 7}, {"new": 7, "old": 5}, {"old": 7, "new": 5}):
        given = Stamp(COMMIT, frozenset({"old", "new"}), vector)
        renamed = rename(given, {"old": "new"})
        assert renamed == Stamp(COMMIT, frozenset({"new"}), {"new": 7})


def test_renaming_nothing_costs_nothing():
    given = Stamp(COMMIT, frozenset({"root"}), {"root": 3})
    assert rename(given, {"old": "new"}) is given
