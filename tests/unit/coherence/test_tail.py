"""The tail: how far back it reads, and what it does and does not tell."""

import argparse
import dataclasses
import random

import cut_checks
import pytest
from cut_histories import proof_through_a_settled_record, simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from zodbpickle import binary, pickle

from tidstorage.coherence import cut, tail
from tidstorage.coherence.cut import Record, coherent_cut
from tidstorage.coherence.stamp import Stamp, encode
from tidstorage.coherence.tail import (
    followers_from,
    partners_from,
    tail_cut,
    tail_stops,
)
from tidstorage.engines.filestorage import cut_files, cut_from_the_ends
from tidstorage.engines.filestorage.format import (
    DATA_HEADER,
    HEADER,
    MAGICS,
    TRAILER,
)
from tidstorage.errors import (
    FileUnreadable,
    FloorNeeded,
    NotCoherent,
    UnknownStorage,
)


def stamp(name, participants="", **vector):
    return Stamp(name.encode() * 16, frozenset(participants), vector)


def newest_first(records):
    return {storage: reversed(held) for storage, held in records.items()}


def test_stops_are_what_all_others_knew_of_but_never_at_the_floor():
    known = {"A": {"B": 50, "C": 7}, "B": {"A": 20, "C": 9}, "C": {"A": 30}}
    floor = {"A": 3, "B": 0, "C": 8}
    assert tail_stops(known, floor) == {"A": 20, "B": 1, "C": 9}


def test_a_single_storage_is_examined_down_to_its_floor():
    assert tail_stops({"A": {}}, {"A": 5}) == {"A": 6}


def test_how_far_partners_and_followers_go_back():
    stamps = [stamp("t", "AB", A=5, B=9, C=2), stamp("u", "AC", A=7)]
    assert partners_from(stamps) == {"A": 5, "B": 9, "C": 0}
    assert followers_from(stamps, "AC") == {"A": 5, "C": 0}


def test_a_proof_that_only_a_settled_record_gives():
    history = proof_through_a_settled_record()
    result = tail_cut(newest_first(history.records))
    assert result.tolerant == {"A": 2, "C": 31, "W": 22}
    assert [each.missing for each in result.half_commits] == [("C",)]


def test_a_settled_half_commit_is_not_looked_at():
    """So the tail is no strict cut, and does not name all half commits."""
    records = {
        "A": [Record(1, stamp("t", "AB", A=1, B=11)), Record(2, stamp("u", "A", B=12))],
        "B": [Record(11, stamp("v", "B", A=2)), Record(12, stamp("w", "B", A=3))],
    }
    full = coherent_cut(records)
    assert full.strict == {"A": 0, "B": 0} and len(full.half_commits) == 1
    result = tail_cut(newest_first(records))
    assert result.tolerant == full.tolerant == {"A": 2, "B": 12}
    assert result.half_commits == ()


def test_a_long_history_is_not_read():
    """Two storages that are always written together: a handful of records."""
    count = 5000
    stamps = [
        Stamp(n.to_bytes(16, "big"), frozenset("AB"), {"A": n, "B": n})
        for n in range(1, count)
    ]
    records = [Record(n, each) for n, each in enumerate(stamps, start=1)]
    taken = {"A": 0, "B": 0}

    def backwards(storage):
        for record in reversed(records):
            taken[storage] += 1
            yield record

    result = tail_cut({"A": backwards("A"), "B": backwards("B")})
    assert result.tolerant == {"A": count - 1, "B": count - 1}
    assert max(taken.values()) <= 3


def test_errors_are_those_of_the_full_computation():
    with pytest.raises(NotCoherent):
        tail_cut({"A": [Record(1), Record(2)]})
    with pytest.raises(UnknownStorage):
        tail_cut({"A": [Record(1, stamp("t", "AZ"))]})
    assert tail_cut({"A": [Record(1, stamp("t", "AZ"))]}, partial=True).tolerant == {
        "A": 1
    }


class Core:
    coherent_cut = staticmethod(cut.coherent_cut)
    tail_cut = staticmethod(tail.tail_cut)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**63))
def test_the_tail_equals_the_tolerant_cut(seed):
    history = simulate(seed, steps=300)
    cut_checks.tail_equals_tolerant(Core, history)
    cut_checks.tail_reads_no_further_than_needed(Core, history)


def write_files(folder, history, chance=None):
    """The history's records as Data.fs files; what is at or below the floor is packed.

    chance: makes abandoned votes of some of the records without a stamp.
    {storage id: its file}.
    """
    paths = {}
    for storage, held in history.records.items():
        path = paths[storage] = folder / f"{storage}.fs"
        content = [MAGICS[0]]
        for number, record in enumerate(held):
            extension = b""
            if record.stamp is None and chance and chance.random() < 0.3:
                remains = path.with_name(f"{path.name}.tr{number}")
                write_vote(remains, record.tid, content)
                continue
            if record.stamp is not None:
                name, participants, vector = dataclasses.astuple(record.stamp)
                encoded = encode(name, participants, vector)
                extension = pickle.dumps({"tids": binary(encoded)}, 3)
            length = HEADER.size + len(extension)
            packed = record.tid <= history.floor.get(storage, 0)
            status = b"p" if packed else b" "
            content += [
                HEADER.pack(record.tid, length, status, 0, 0, len(extension)),
                extension,
                TRAILER.pack(length),
            ]
        path.write_bytes(b"".join(content))
    return paths


def write_vote(path, number, content):
    """What a server's start leaves of a vote that it cut off behind the content."""
    position = sum(map(len, content))
    length = HEADER.size + DATA_HEADER.size
    path.write_bytes(
        HEADER.pack(number, length, b"c", 0, 0, 0)
        + DATA_HEADER.pack(bytes(8), number.to_bytes(8, "big"), 0, position, 0, 0)
    )


def cut_both_ways(paths, floor, **options):
    """The tolerant cut and half commits by both computations; None: refused."""
    results = []
    for cut_them in (cut_files, cut_from_the_ends):
        try:
            results.append(cut_them(paths, floor, aliases={}, **options))
        except (FloorNeeded, NotCoherent, UnknownStorage):
            results.append(None)
    return results


class TestFiles:
    def test_the_same_as_from_whole_files(self, tmp_path):
        """Whenever both answer, on files of every kind of history."""
        answered = halves = votes = 0
        for seed in range(300):
            history = simulate(seed, steps=200)
            folder = tmp_path / str(seed)
            folder.mkdir()
            paths = write_files(folder, history, random.Random(seed))
            options = {"retired": history.retired}
            whole, ends = cut_both_ways(paths, history.floor, **options)
            # From the ends one may answer where a file as a whole is refused.
            assert ends is not None or whole is None, seed
            if whole is None or ends is None:
                continue
            answered += 1
            assert ends.tolerant == whole.tolerant, seed
            named = {half.commit_id: half for half in whole.half_commits}
            for half in ends.half_commits:
                assert named[half.commit_id] == half, seed
            halves += len(ends.half_commits)
            votes += sum(len(read.abandoned) for read in ends.tails.values())
            for storage, read in ends.tails.items():
                kept, whole_tail = ends.tolerant[storage], whole.tails[storage]
                assert read.dropped_behind(kept) == whole_tail.dropped_behind(kept)
        assert answered > 200 and halves > 20 and votes > 20

    def test_without_their_floor_packed_files_are_never_cut_wrongly(self, tmp_path):
        """A packed record is refused, or lies below all that matters."""
        refused = answered = 0
        for seed in range(300):
            history = simulate(seed, steps=200)
            if not any(history.floor.values()) or not history.whole:
                continue
            folder = tmp_path / str(seed)
            folder.mkdir()
            paths = write_files(folder, history)
            options = {"retired": history.retired}
            whole, _ = cut_both_ways(paths, history.floor, **options)
            _, ends = cut_both_ways(paths, {}, **options)
            if whole is None or ends is None:
                refused += ends is None
                continue
            answered += 1
            assert ends.tolerant == whole.tolerant, seed
        assert refused > 10 and answered

    def test_no_more_is_read_than_needed(self, tmp_path):
        """Not even what is broken."""
        stamps = [
            Stamp(n.to_bytes(16, "big"), frozenset("AB"), {"A": n, "B": n})
            for n in range(1, 50)
        ]
        records = [Record(n, each) for n, each in enumerate(stamps, start=1)]
        history = argparse.Namespace(records={"A": records, "B": records}, floor={})
        paths = write_files(tmp_path, history)
        for path in paths.values():
            content = path.read_bytes()
            middle = len(content) // 2
            path.write_bytes(content[:100] + bytes(middle - 100) + content[middle:])
        ends = cut_from_the_ends(paths, {}, aliases={})
        assert {each: place.tid for each, place in ends.tolerant.items()} == {
            "A": 49,
            "B": 49,
        }
        assert all(len(read.records) <= 3 for read in ends.tails.values())

    def test_a_floor_of_a_storage_that_is_not_given(self, tmp_path):
        history = argparse.Namespace(records={"A": [Record(5)]}, floor={})
        paths = write_files(tmp_path, history)
        assert cut_both_ways(paths, {"Z": 3}) == [None, None]
        whole, ends = cut_both_ways(paths, {"Z": 3}, partial=True)
        assert whole.tolerant == ends.tolerant

    @pytest.mark.parametrize("floor, ends_before", [(5, False), (6, True), (4, False)])
    def test_a_file_that_ends_before_its_floor(self, floor, ends_before, tmp_path):
        history = argparse.Namespace(records={"A": [Record(5)]}, floor={})
        paths = write_files(tmp_path, history)
        results = cut_both_ways(paths, {"A": floor})
        assert [each is None for each in results] == [ends_before, ends_before]

    def test_tids_that_go_backwards(self, tmp_path):
        records = {"A": [Record(7), Record(5)]}
        paths = write_files(tmp_path, argparse.Namespace(records=records, floor={}))
        with pytest.raises(FileUnreadable, match="backwards"):
            cut_from_the_ends(paths, {}, aliases={})
