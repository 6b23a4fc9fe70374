"""From records to points: growth, proofs by servers, barriers, lost timelines."""

import random

import pytest
from cut_histories import simulate

from tidstorage.coherence.cut import Record, coherent_cut
from tidstorage.coherence.following import PATIENCE, Coherence, LostTimeline, Probe
from tidstorage.coherence.point import HalfCommit, UnknownOutcome
from tidstorage.coherence.stamp import Stamp


def name(text: str) -> bytes:
    return text.encode().ljust(16, b".")


def record(tid: int, text: str, participants: str = "", **seen: int) -> Record:
    return Record(tid, Stamp(name(text), frozenset(participants), seen))


def started(**options) -> Coherence:
    return Coherence({"A": 10, "B": 20, "C": 30}, **options)


def vector_of(advance) -> dict[str, int]:
    assert advance is not None
    return dict(advance.vector)


def test_a_point_grows_when_both_records_are_there():
    coherence = started()
    assert coherence.advance() is None
    coherence.add("A", [record(11, "t", "AB")], 1.0)
    assert coherence.advance() is None
    assert coherence.age(3.0) == 2.0
    coherence.add("B", [record(21, "t", "AB")], 4.0)
    advance = coherence.advance()
    assert vector_of(advance) == {"A": 11, "B": 21, "C": 30}
    assert advance.verified and not advance.damage
    assert coherence.age(5.0) == 0 and coherence.waiting() == 0
    assert coherence.advance() is None


def test_records_that_come_twice_count_once():
    coherence = started()
    coherence.add("A", [record(9, "old", "A"), record(11, "t", "A")], 0)
    coherence.add("A", [record(11, "t", "A"), record(12, "u", "A")], 0)
    assert vector_of(coherence.advance())["A"] == 12


def test_what_was_seen_has_to_be_there():
    coherence = started()
    coherence.add("B", [record(21, "reader", "B", A=12)], 0)
    assert coherence.advance() is None
    coherence.add("A", [record(11, "read", "A")], 0)
    assert vector_of(coherence.advance()) == {"A": 11, "B": 21, "C": 30}


def half(coherence: Coherence) -> None:
    coherence.add("A", [record(11, "half", "AB")], 0)
    assert coherence.advance() is None
    assert coherence.questions(PATIENCE / 2) == {}
    assert coherence.questions(2 * PATIENCE) == {"B": {name("half")}}


def probe(lock_time: float | None, last: int = 20) -> Probe:
    return Probe("B", frozenset({name("half")}), lock_time, last)


HALF = HalfCommit(name("half"), {"A": 11}, ("B",))


def test_a_free_lock_proves_a_half_commit():
    coherence = started()
    half(coherence)
    assert coherence.answer(probe(None))
    advance = coherence.advance()
    assert vector_of(advance) == {"A": 11, "B": 20, "C": 30}
    assert advance.damage == advance.new_damage == (HALF,)


def test_a_lock_that_changed_hands_proves_it_and_one_that_did_not_proves_nothing():
    coherence = started()
    half(coherence)
    assert not coherence.answer(probe(5.0))
    assert not coherence.answer(probe(5.0))
    assert coherence.advance() is None
    # Equality only: that clock may be set back.
    assert coherence.answer(probe(4.0))
    assert coherence.advance() is not None


def test_a_record_that_came_after_all_is_no_half_commit():
    coherence = started()
    half(coherence)
    coherence.add("B", [record(21, "half", "AB")], 0)
    coherence.advance()
    assert not coherence.answer(probe(None))
    coherence.add("A", [record(12, "next", "A")], 0)
    advance = coherence.advance()
    assert vector_of(advance) == {"A": 12, "B": 21, "C": 30} and not advance.damage


def test_a_later_record_proves_it_too_and_it_stays_named_until_acknowledged():
    coherence = started()
    half(coherence)
    coherence.add("B", [record(21, "later", "B", A=12)], 0)
    advance = coherence.advance()
    assert advance.new_damage == (HALF,)
    coherence.add("C", [record(31, "more", "C")], 0)
    advance = coherence.advance()
    assert advance.damage == (HALF,) and advance.new_damage == ()
    assert not coherence.acknowledge(name("another"))
    assert coherence.acknowledge(HALF.commit_id)
    assert coherence.standing().damage == ()
    coherence.add("C", [record(32, "more", "C")], 0)
    assert coherence.advance().damage == ()


def test_damage_of_a_former_run_is_kept():
    coherence = started(damage=[HALF])
    coherence.add("C", [record(31, "t", "C")], 0)
    assert coherence.advance().damage == (HALF,)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_half_commit_that_was_accepted_before_it_is_proven_is_no_damage(when):
    # As after a restore to before the floor that accepted it.
    coherence = started(
        damage=[HALF], acknowledged=[HALF.commit_id] if when == "before" else []
    )
    half(coherence)
    if when == "meanwhile":
        assert coherence.acknowledge(HALF.commit_id)
    assert coherence.answer(probe(None))
    advance = coherence.advance()
    assert vector_of(advance)["A"] == 11
    assert advance.damage == advance.new_damage == ()


def test_unstamped_records_make_points_unverified_until_a_barrier():
    coherence = started()
    coherence.add("A", [Record(11)], 0)
    assert not coherence.advance().verified
    coherence.add("A", [record(12, "t", "A")], 0)
    assert not coherence.advance().verified
    coherence.take_barrier({"A": 13, "B": 20, "C": 30})
    assert coherence.advance() is None
    coherence.add("A", [Record(13)], 0)
    advance = coherence.advance()
    assert advance.verified and vector_of(advance)["A"] == 13
    coherence.add("A", [record(14, "u", "A")], 0)
    assert coherence.advance().verified


def test_what_follows_a_barrier_unstamped_is_unverified_again():
    coherence = started(verified=False)
    coherence.take_barrier({"A": 11, "B": 20, "C": 30})
    coherence.add("A", [Record(11), Record(12)], 0)
    assert not coherence.advance().verified


def test_a_barrier_launders_no_half_commit():
    coherence = started(verified=False)
    coherence.add("A", [record(11, "half", "AB")], 0)
    coherence.add("C", [record(31, "torn later", "BC")], 0)
    coherence.take_barrier({"A": 11, "B": 20, "C": 30})
    advance = coherence.advance()
    assert vector_of(advance) == {"A": 11, "B": 20, "C": 30}
    assert advance.new_damage == (HALF,) and advance.verified


def test_a_storage_that_nobody_observes_makes_points_unverified():
    coherence = started()
    coherence.add("A", [record(11, "t", "AX")], 0)
    advance = coherence.advance()
    assert vector_of(advance)["A"] == 11 and not advance.verified
    assert "X" in coherence.unknown


def test_a_retired_storage_is_known():
    coherence = started(retired=["X"])
    coherence.add("A", [record(11, "t", "AX")], 0)
    assert coherence.advance().verified and not coherence.unknown


def test_a_writer_that_has_seen_what_never_was():
    coherence = started()
    coherence.add("A", [record(11, "lost", "A", B=99)], 0)
    assert coherence.advance() is None
    assert coherence.questions(1) == {"B": {name("lost")}}
    answer = Probe("B", frozenset({name("lost")}), None, 98)
    coherence.answer(answer)
    # It was only late.
    assert coherence.lost_timeline == {}
    coherence.answer(Probe("B", frozenset({name("lost")}), None, 97))
    assert coherence.lost_timeline[name("lost")] == LostTimeline(
        name("lost"), "A", 11, "B", 99, 97
    )
    assert coherence.advance() is None


def test_an_end_that_is_no_record_is_all_there_is_to_see():
    # A server that was killed amid a vote names that vote's TID as its last.
    coherence = started()
    coherence.add("B", [record(21, "reader", "B", A=16)], 0)
    assert coherence.advance() is None
    coherence.add_end("A", 15)
    advance = coherence.advance()
    assert vector_of(advance) == {"A": 10, "B": 21, "C": 30} and advance.verified
    coherence.add("B", [record(22, "reader", "B", A=16)], 0)
    assert vector_of(coherence.advance()) == {"A": 10, "B": 22, "C": 30}
    coherence.add("A", [record(17, "t", "A")], 0)
    assert vector_of(coherence.advance()) == {"A": 17, "B": 22, "C": 30}


@pytest.mark.parametrize("first_seed", range(0, 400, 100))
def test_record_by_record_it_comes_to_the_same_as_all_at_once(first_seed):
    for seed in range(first_seed, first_seed + 100):
        history = simulate(seed)
        whole = coherent_cut(
            history.records, history.floor, retired=history.retired, partial=True
        )
        start = {each: history.floor.get(each, 0) for each in history.records}
        coherence = Coherence(start, retired=history.retired)
        chance = random.Random(seed)
        left = {
            each: [r for r in held if r.tid > start[each]]
            for each, held in history.records.items()
        }
        before = start
        while any(left.values()):
            storage = chance.choice([each for each, held in left.items() if held])
            size = chance.randint(1, 3)
            coherence.add(storage, left[storage][:size], 0)
            del left[storage][:size]
            if chance.random() < 0.7:
                coherence.advance()
                after = coherence.vector
                assert all(after[each] >= before[each] for each in before), seed
                before = after
        coherence.advance()
        assert coherence.vector == whole.tolerant, seed
        assert {each.commit_id for each in coherence.standing().damage} == {
            each.commit_id for each in whole.half_commits
        }, seed


@pytest.mark.parametrize("most_waiting", [1, 3])
def test_a_bound_on_what_waits_holds_up_nothing(monkeypatch, most_waiting):
    monkeypatch.setattr("tidstorage.coherence.following.MOST_WAITING", most_waiting)
    came_to_the_end = 0
    for seed in range(200):
        history = simulate(seed)
        whole = coherent_cut(
            history.records, history.floor, retired=history.retired, partial=True
        )
        start = {each: history.floor.get(each, 0) for each in history.records}
        coherence = Coherence(start, retired=history.retired)
        left = {
            each: [r for r in held if r.tid > start[each]]
            for each, held in history.records.items()
        }
        before = None
        while before != (coherence.vector, coherence.waiting()):
            before = coherence.vector, coherence.waiting()
            for storage, held in left.items():
                room = coherence.room(storage)
                coherence.add(storage, held[:room], 0)
                del held[:room]
            assert coherence.waiting() <= most_waiting * len(left)
            coherence.advance()
        if whole.half_commits or whole.undecided:
            # A server has to be asked, which takes room.
            assert all(
                coherence.vector[each] <= last for each, last in whole.tolerant.items()
            )
        else:
            assert coherence.vector == whole.tolerant, seed
            came_to_the_end += any(whole.tolerant[each] > start[each] for each in start)
    assert came_to_the_end > 20


def test_nothing_is_computed_where_nothing_is_new(monkeypatch):
    coherence = started()
    coherence.add("A", [record(11, "t", "AB")], 0)
    coherence.advance()
    monkeypatch.setattr("tidstorage.coherence.following.coherent_cut", None)
    assert coherence.advance() is None
    with pytest.raises(TypeError):
        coherence.add("A", [record(12, "u", "A")], 0)
        coherence.advance()


def test_what_was_packed_before_it_was_seen_is_no_half_commit():
    coherence = started()
    assert coherence.add_packed("B", 25)
    assert not coherence.add_packed("B", 24) and not coherence.add_packed("A", 10)
    half(coherence)
    assert coherence.answer(probe(None))
    advance = coherence.advance()
    assert vector_of(advance)["A"] == 11 and not advance.damage
    assert advance.unknown == (UnknownOutcome(name("half"), {"A": 11}, ("B",)),)
    # Whoever builds on it cannot tell, until all storages stood still.
    assert not advance.verified
    coherence.add("B", [record(26, "t", "B")], 0)
    advance = coherence.advance()
    assert not advance.unknown and not advance.verified
    coherence.take_barrier({"A": 11, "B": 26, "C": 30})
    assert coherence.advance().verified


def test_what_comes_after_the_pack_is_seen_to_be_torn():
    coherence = started()
    coherence.add_packed("B", 25)
    coherence.add("B", [record(26, "t", "B")], 0)
    coherence.advance()
    coherence.add("A", [record(11, "half", "AB", B=27)], 0)
    coherence.advance()
    assert coherence.answer(probe(None))
    assert coherence.advance().new_damage == (HALF,)
