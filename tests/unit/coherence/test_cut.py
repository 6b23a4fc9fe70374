"""Examples of coherent cuts, one for each rule and each decision."""

import pytest

from tidstorage.coherence.cut import Record, coherent_cut, complete_packed_ends
from tidstorage.coherence.loss import Loss, count_loss
from tidstorage.coherence.point import HalfCommit, UnknownOutcome
from tidstorage.coherence.stamp import Stamp
from tidstorage.coherence.tid import LAST, to_time
from tidstorage.errors import NotCoherent, UnknownStorage


def commit(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def record(tid: int, name: str, participants: str = "", **seen: int) -> Record:
    """A stamped record; ``seen`` are the vector's exclusive bounds."""
    return Record(tid, Stamp(commit(name), frozenset(participants), seen))


def test_keeps_everything_that_fits():
    records = {
        "A": [record(1, "t", "AB"), record(2, "u", "A", A=2, B=11)],
        "B": [record(10, "t", "AB")],
    }
    result = coherent_cut(records)
    assert result.strict == result.tolerant == {"A": 2, "B": 10}
    assert result.half_commits == result.undecided == ()


def test_a_torn_transaction_is_dropped_with_all_that_follows_it():
    records = {
        "A": [record(1, "s", "A"), record(2, "t", "AB"), record(3, "u", "A")],
        "B": [],
    }
    result = coherent_cut(records)
    assert result.strict == result.tolerant == {"A": 1, "B": 0}
    assert result.undecided == (HalfCommit(commit("t"), {"A": 2}, ("B",)),)


def test_what_could_see_a_dropped_record_is_dropped():
    records = {
        "A": [record(1, "t", "AB")],
        "B": [],
        "C": [record(7, "u", "C", A=1), record(8, "v", "C", A=2)],
    }
    assert coherent_cut(records).strict == {"A": 0, "B": 0, "C": 7}


def test_a_copy_that_is_too_short_for_what_was_seen_of_it():
    records = {"A": [record(4, "t", "A")], "B": [record(9, "u", "B", A=6)]}
    assert coherent_cut(records).strict == {"A": 4, "B": 0}
    records["A"].append(record(5, "v", "A"))
    assert coherent_cut(records).strict == {"A": 5, "B": 9}


def test_a_bound_between_the_kept_and_the_dropped_is_met():
    """What is known to be nothing need not be there."""
    records = {
        "A": [record(2, "s", "A"), record(9, "t", "AB")],
        "B": [],
        "C": [record(5, "u", "C", A=9), record(6, "v", "C", A=10)],
    }
    assert coherent_cut(records).strict == {"A": 2, "B": 0, "C": 5}


def test_a_half_commit_is_proven_by_what_follows_on_the_participant():
    records = {
        "A": [record(1, "t", "AB"), record(2, "u", "A")],
        "B": [record(11, "v", "B", A=2)],
    }
    result = coherent_cut(records)
    assert result.strict == {"A": 0, "B": 0}
    assert result.tolerant == {"A": 2, "B": 11}
    assert result.half_commits == (HalfCommit(commit("t"), {"A": 1}, ("B",)),)


def test_the_proof_follows_chains_over_other_storages():
    """t before u on A, u's other record on C seen by v, v on B."""
    records = {
        "A": [record(1, "t", "AB"), record(2, "u", "AC")],
        "B": [record(11, "v", "B", C=22)],
        "C": [record(21, "u", "AC")],
    }
    assert [each.missing for each in coherent_cut(records).half_commits] == [("B",)]
    records["B"] = [record(11, "v", "B", C=21)]
    result = coherent_cut(records)
    assert result.half_commits == ()
    assert result.tolerant == {"A": 0, "B": 11, "C": 0}


def test_dead_on_one_participant_only_is_not_dead():
    records = {
        "A": [record(1, "t", "ABC")],
        "B": [record(11, "v", "B", A=2)],
        "C": [],
    }
    result = coherent_cut(records)
    assert result.tolerant == {"A": 0, "B": 0, "C": 0}
    assert result.undecided == (HalfCommit(commit("t"), {"A": 1}, ("B", "C")),)
    result = coherent_cut(records, dead=[(commit("t"), "C")])
    assert result.tolerant == {"A": 1, "B": 11, "C": 0}
    assert result.half_commits == (HalfCommit(commit("t"), {"A": 1}, ("B", "C")),)


def test_a_proof_of_the_caller_changes_the_tolerant_cut_alone():
    records = {"A": [record(1, "t", "AB")], "B": []}
    result = coherent_cut(records, dead=[(commit("t"), "B")])
    assert result.strict == {"A": 0, "B": 0}
    assert result.tolerant == {"A": 1, "B": 0}


def test_a_half_commit_behind_an_undecided_one_is_not_named():
    records = {
        "A": [record(1, "s", "AC"), record(2, "t", "AB")],
        "B": [record(11, "v", "B", A=3)],
        "C": [],
    }
    result = coherent_cut(records)
    assert result.tolerant == {"A": 0, "B": 0, "C": 0}
    assert result.half_commits == ()


def test_nothing_at_or_below_the_floor_is_examined():
    records = {
        "A": [record(1, "t", "AB", C=5), record(2, "u", "AB"), record(3, "v", "A")],
        "B": [record(10, "u", "AB"), record(12, "w", "AB")],
    }
    result = coherent_cut(records, {"A": 1, "B": 10})
    assert result.strict == {"A": 3, "B": 10}
    assert result.half_commits == ()


def test_a_partner_at_or_below_the_floor_is_present():
    records = {"A": [record(3, "t", "AB")], "B": [record(10, "t", "AB")]}
    assert coherent_cut(records, {"A": 0, "B": 10}).strict == {"A": 3, "B": 10}


def test_the_floor_is_the_end_of_a_storage_whose_last_records_were_packed_away():
    records = {"A": [record(3, "t", "A", B=11)], "B": []}
    assert coherent_cut(records, {"A": 2, "B": 10}).strict == {"A": 3, "B": 10}
    assert coherent_cut(records, {"A": 2, "B": 9}).strict == {"A": 2, "B": 9}


def test_a_storage_added_after_the_floor():
    records = {"A": [record(5, "t", "AN")], "N": [record(1, "t", "AN")]}
    assert coherent_cut(records, {"A": 4}).strict == {"A": 5, "N": 1}


def test_retired_storages_count_for_nothing_unless_they_are_given():
    records = {"A": [record(1, "t", "AX", X=100)]}
    assert coherent_cut(records, retired=["X"]).strict == {"A": 1}
    result = coherent_cut({**records, "X": []}, retired=["X"])
    assert result.strict == {"A": 0, "X": 0}


@pytest.mark.parametrize(
    "record",
    [record(1, "t", "AZ"), record(1, "t", "A", Z=3)],
    ids=["participant", "seen"],
)
def test_a_storage_that_was_not_given_is_named(record):
    with pytest.raises(UnknownStorage) as caught:
        coherent_cut({"A": [record]})
    for part in ("storage Z", commit("t").hex(), "storage A", "0x0000000000000001"):
        assert part in str(caught.value)
    assert coherent_cut({"A": [record]}, partial=True).strict == {"A": 1}
    assert coherent_cut({"A": [record]}, {"A": 1}).strict == {"A": 1}


def test_a_floor_of_storages_that_were_not_given():
    with pytest.raises(UnknownStorage, match="Z"):
        coherent_cut({"A": []}, {"A": 1, "Z": 1})
    assert coherent_cut({"A": []}, {"A": 1, "Z": 1}, retired="Z").strict == {"A": 1}
    assert coherent_cut({"A": []}, {"A": 1, "Z": 1}, partial=True).strict == {"A": 1}


def test_partial_still_asks_for_the_participants_that_were_given():
    records = {"A": [record(1, "t", "ABZ")], "B": []}
    result = coherent_cut(records, partial=True)
    assert result.strict == {"A": 0, "B": 0}
    assert result.undecided == (HalfCommit(commit("t"), {"A": 1}, ("B",)),)


def test_unstamped_records_are_counted_up_to_the_tolerant_cut():
    records = {
        "A": [Record(1), Record(2), record(3, "t", "AB"), Record(4)],
        "B": [],
        "C": [Record(7)],
    }
    result = coherent_cut(records, {"A": 1})
    assert result.strict == {"A": 2, "B": 0, "C": 7}
    assert result.unstamped == {"A": 1, "B": 0, "C": 1}


def test_a_storage_that_holds_the_commit_counts_as_its_participant():
    records = {
        "A": [record(1, "t", "A")],
        "B": [record(10, "s", "BC"), record(11, "t", "A")],
        "C": [],
    }
    assert coherent_cut(records).strict == {"A": 0, "B": 0, "C": 0}


def test_a_commit_id_twice_in_one_storage_is_kept_or_dropped_together():
    records = {
        "A": [record(1, "t", "A"), record(2, "u", "AB"), record(3, "t", "A")],
        "B": [],
    }
    assert coherent_cut(records).strict == {"A": 0, "B": 0}


@pytest.mark.parametrize("tids", [[2, 1], [3, 3]])
def test_tids_that_do_not_rise_are_refused(tids):
    with pytest.raises(NotCoherent, match="storage A"):
        coherent_cut({"A": [Record(tid) for tid in tids]})


def test_no_storage_at_all():
    result = coherent_cut({})
    assert result.strict == result.tolerant == result.unstamped == {}


def test_an_empty_storage_is_cut_at_its_floor():
    assert coherent_cut({"A": [], "B": []}, {"A": 4}).strict == {"A": 4, "B": 0}


class TestLoss:
    RECORDS = {
        "A": [record(1, "t", "AB"), record(3, "u", "AB"), Record(5)],
        "B": [record(2, "t", "AB"), record(4, "u", "AB"), Record(5)],
    }

    def test_nothing(self):
        assert count_loss(self.RECORDS, {"A": 5, "B": 5}) is None
        assert count_loss({}, {}) is None

    def test_a_transaction_counts_once_and_an_unstamped_record_for_itself(self):
        loss = count_loss(self.RECORDS, {"A": 2, "B": 2})
        assert loss == Loss(3, to_time(3))
        assert count_loss(self.RECORDS, {"A": 0, "B": 0}).transactions == 4

    def test_what_follows_the_bound_does_not_count(self):
        cut, until = {"A": 1, "B": 2}, {"A": 3, "B": 3}
        assert count_loss(self.RECORDS, cut, until) == Loss(1, to_time(3))
        assert count_loss(self.RECORDS, cut, cut) is None

    def test_the_first_record_tells_since_when(self):
        """Also where it is that of a storage that comes later."""
        loss = count_loss(self.RECORDS, {"A": 3, "B": 2})
        assert loss == Loss(3, to_time(4))


def packed_files():
    """t is on A and C; u, later on both C and A, follows it.  A pack took t from C."""
    return {
        "A": [record(1, "t", "AC", C=10), record(2, "u", "AC", A=2, C=12)],
        "C": [record(14, "u", "AC", A=2, C=12)],
    }


def test_what_a_pack_may_have_taken_is_not_missing():
    records = packed_files()
    torn = HalfCommit(commit("t"), {"A": 1}, ("C",))
    assert coherent_cut(records).half_commits == (torn,)
    result = coherent_cut(records, packed={"C": 13})
    assert result.half_commits == result.undecided == ()
    assert result.unknown == (UnknownOutcome(commit("t"), {"A": 1}, ("C",)),)
    assert result.strict == result.tolerant == {"A": 2, "C": 14}


def test_what_came_after_the_pack_is_missing_all_the_same():
    records = packed_files()
    # Its record of C can only be at 10 or above.
    result = coherent_cut(records, packed={"C": 9})
    assert [half.commit_id for half in result.half_commits] == [commit("t")]
    assert coherent_cut(records, packed={"C": 10}).half_commits == ()


def test_what_was_seen_before_the_pack_stays_torn():
    result = coherent_cut(packed_files(), packed={"C": 13}, dead=[(commit("t"), "C")])
    assert [half.commit_id for half in result.half_commits] == [commit("t")]
    assert result.unknown == ()


def test_a_pack_hides_nothing_of_other_storages():
    """It lacks its record on B as well, which nobody packed."""
    records = packed_files()
    records["A"][0] = record(1, "t", "ABC", B=20, C=10)
    records["B"] = [record(21, "v", "B", A=2)]
    result = coherent_cut(records, packed={"C": 13})
    assert result.half_commits == (HalfCommit(commit("t"), {"A": 1}, ("B",)),)


def test_what_may_still_come_is_left_out_whatever_was_packed():
    records = {"A": [record(1, "t", "AC", C=10)], "C": [record(9, "s", "C")]}
    result = coherent_cut(records, packed={"C": LAST})
    assert result.tolerant == {"A": 0, "C": 9} and not result.unknown
    settled = [(commit("t"), "C")]
    result = coherent_cut(records, packed={"C": LAST}, settled=settled)
    assert result.tolerant == {"A": 1, "C": 9} and result.unknown


def test_below_the_floor_a_pack_is_nobodys_business():
    result = coherent_cut(packed_files(), {"C": 10}, packed={"C": 10})
    assert [half.commit_id for half in result.half_commits] == [commit("t")]


def test_the_end_that_others_saw_of_a_storage_that_was_packed_to_its_end():
    records = {"A": [record(1, "t", "A", C=16)], "C": [record(14, "u", "C")]}
    assert coherent_cut(records).tolerant == {"A": 0, "C": 14}
    completed = complete_packed_ends(records, {"A": 0, "C": LAST})
    assert completed["C"][-1] == Record(15) and completed["A"] == records["A"]
    assert coherent_cut(completed).tolerant == {"A": 1, "C": 15}
    # Where anything came after the pack, what is missing at the end is missing.
    assert complete_packed_ends(records, {"A": 0, "C": 13}) == records
