"""What the daemon publishes of storages it knows by messages only."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidstorage.coherence.messages import InDoubt, WireCoherency


def bootstrapped(**options: object) -> WireCoherency:
    """One whose bootstrap is over; nothing is visible."""
    wire = WireCoherency(**options)  # type: ignore[arg-type]
    wire.begin("first", [], 0)
    wire.abort("first")
    assert wire.bootstrapped and not wire.visible
    return wire


def write(wire: WireCoherency, name: str, now: float = 0, **tids: int) -> None:
    wire.begin(name, list(tids), now)
    wire.commit(name, tids, now)


# Bootstrap


def test_a_new_one_shows_nothing_and_is_not_bootstrapped() -> None:
    wire = WireCoherency()
    assert wire.visible == {} and not wire.bootstrapped
    wire.begin("t", ["a"], 0)
    assert wire.visible == {} and not wire.bootstrapped


@pytest.mark.parametrize("end", ["abort", "commit"])
def test_the_first_end_of_a_transaction_is_the_bootstrap(end: str) -> None:
    wire = WireCoherency()
    wire.begin("t", ["a"], 0)
    if end == "abort":
        wire.abort("t")
    else:
        wire.commit("t", {"a": 1}, 0)
    assert wire.bootstrapped and wire.visible == {}


@pytest.mark.parametrize("end", ["abort", "commit"])
def test_an_id_is_visible_at_the_next_end_after_the_bootstrap(end: str) -> None:
    wire = WireCoherency()
    write(wire, "t1", a=1)
    wire.begin("t2", ["b"], 0)
    assert wire.visible == {}
    if end == "abort":
        wire.abort("t2")
        assert wire.visible == {"a": 1}
    else:
        wire.commit("t2", {"b": 2}, 0)
        assert wire.visible == {"a": 1, "b": 2}


def test_an_unknown_abort_is_no_end() -> None:
    wire = WireCoherency()
    wire.abort("never begun")
    assert not wire.bootstrapped


def test_with_observed_storages_the_observer_bootstraps() -> None:
    wire = WireCoherency(observed=["a"])
    write(wire, "t1", a=1, b=1)
    write(wire, "t2", a=2, b=2)
    assert wire.visible == {} and not wire.bootstrapped
    wire.bootstrapped = True
    write(wire, "t3", a=3)
    assert wire.visible == {"b": 2}


def test_what_a_former_run_published_is_visible_at_once() -> None:
    wire = WireCoherency(published={"a": 7})
    assert wire.visible == {"a": 7} and wire.bootstrapped
    write(wire, "t", a=6)
    assert wire.visible == {"a": 7}
    write(wire, "t", a=8)
    assert wire.visible == {"a": 8}


# What blocks, and what releases


def test_a_transaction_that_has_begun_blocks_its_storages() -> None:
    wire = bootstrapped()
    wire.begin("t1", ["a", "b"], 0)
    write(wire, "t2", a=5)
    assert wire.visible == {}
    wire.commit("t1", {"a": 4, "b": 4}, 0)
    assert wire.visible == {"a": 5, "b": 4}


def test_abort_releases_what_it_blocked() -> None:
    wire = bootstrapped()
    wire.begin("t1", ["a", "b"], 0)
    write(wire, "t2", a=5)
    assert wire.visible == {}
    wire.abort("t1")
    assert wire.visible == {"a": 5}


def test_disjoint_storages_are_published_independently() -> None:
    wire = bootstrapped()
    wire.begin("t1", ["a", "b"], 0)
    write(wire, "t2", c=3, d=3)
    assert wire.visible == {"c": 3, "d": 3}


def test_what_waits_makes_others_wait() -> None:
    wire = bootstrapped()
    wire.begin("t1", ["a"], 0)
    write(wire, "t2", a=2, b=2)
    write(wire, "t3", b=3, c=3)
    write(wire, "t4", d=4)
    assert wire.visible == {"d": 4}
    wire.abort("t1")
    assert wire.visible == {"a": 2, "b": 3, "c": 3, "d": 4}


def test_lower_and_equal_tids_never_replace_a_higher_one() -> None:
    wire = bootstrapped()
    write(wire, "t1", a=5)
    write(wire, "t2", a=4)
    assert wire.visible == {"a": 5}
    version = wire.version
    write(wire, "t3", a=5)
    assert wire.visible == {"a": 5} and wire.version == version


def test_ids_of_transactions_may_be_used_again_after_their_end() -> None:
    wire = bootstrapped()
    for tid in range(1, 4):
        write(wire, "same", a=tid)
        assert wire.visible == {"a": tid}
    wire.begin("same", ["a"], 0)
    wire.abort("same")
    write(wire, "same", a=9)
    assert wire.visible == {"a": 9}


def test_overlapping_transactions_that_are_never_idle_do_not_freeze_it() -> None:
    wire = bootstrapped()
    wire.begin("t0", ["a", "b"], 0)
    for number in range(1, 50):
        wire.begin(f"t{number}", ["a", "b"], 0)
        wire.commit(f"t{number - 1}", {"a": number, "b": number}, 0)
        # Its own TIDs are below whatever the one still pending will get.
        assert wire.visible.get("a", 0) >= number - 1
        assert wire.visible.get("a") == wire.visible.get("b")


def test_a_commit_counts_without_its_begin() -> None:
    wire = bootstrapped()
    wire.commit("lost", {"a": 1, "b": 1}, 0)
    assert wire.visible == {"a": 1, "b": 1}


def test_a_storage_that_a_commit_leaves_out_waits_for_its_next_tid() -> None:
    wire = bootstrapped()
    wire.begin("t1", ["a", "b"], 0)
    wire.commit("t1", {"a": 1}, 0)
    assert wire.visible == {}
    write(wire, "t2", b=7)
    assert wire.visible == {"a": 1, "b": 7}


def test_a_tid_left_out_is_bounded_only_by_who_began_after_that() -> None:
    wire = bootstrapped()
    wire.begin("t1", ["a", "b"], 0)
    wire.begin("t2", ["b"], 0)
    wire.commit("t1", {"a": 1}, 0)
    wire.commit("t2", {"b": 5}, 0)
    assert wire.visible == {}
    write(wire, "t3", b=6)
    assert wire.visible == {"a": 1, "b": 6}


def test_a_tid_left_out_for_good_expires_as_damage() -> None:
    torn: list[InDoubt] = []
    wire = bootstrapped(on_in_doubt=torn.append)
    wire.begin("t1", ["a", "b"], 0)
    wire.commit("t1", {"a": 1}, 0)
    wire.expire(599)
    assert wire.visible == {} and not torn
    wire.expire(600)
    assert wire.visible == {"a": 1}
    assert [each.transaction_id for each in torn] == ["t1"]


def test_aliases_are_the_same_storage() -> None:
    wire = bootstrapped(aliases={"old": "a"})
    wire.begin("t1", ["old"], 0)
    write(wire, "t2", a=2)
    assert wire.visible == {}
    wire.commit("t1", {"old": 3}, 0)
    assert wire.visible == {"a": 3}


# What never ends


def test_a_transaction_without_an_end_blocks_until_it_expires() -> None:
    torn: list[InDoubt] = []
    wire = bootstrapped(timeout=600, on_in_doubt=torn.append)
    wire.begin("lost", ["a", "b"], 100)
    write(wire, "t", a=5, now=101)
    wire.expire(699.9)
    assert wire.visible == {} and torn == []
    wire.expire(700)
    assert wire.visible == {"a": 5}
    (damage,) = torn
    assert damage.transaction_id == "lost" and set(damage.storages) == {"a", "b"}
    wire.expire(2000)
    assert len(torn) == 1


def test_a_part_published_before_its_commit_came_is_damage_not_taken_back() -> None:
    torn: list[InDoubt] = []
    wire = bootstrapped(on_in_doubt=torn.append)
    write(wire, "t1", a=5)
    wire.commit("late", {"a": 4, "b": 4}, 0)
    assert wire.visible == {"a": 5, "b": 4}
    (damage,) = torn
    assert damage.transaction_id == "late" and damage.tids == {"a": 4, "b": 4}


def test_a_begin_repeated_without_an_end_does_not_unblock_the_first() -> None:
    wire = bootstrapped()
    wire.begin("same", ["a"], 0)
    write(wire, "t", a=3, b=3)
    wire.begin("same", ["c"], 0)
    wire.commit("same", {"c": 1}, 0)
    assert wire.visible == {"c": 1}
    wire.expire(601)
    assert wire.visible == {"a": 3, "b": 3, "c": 1}


def test_memory_is_bounded_behind_a_transaction_that_never_ends() -> None:
    wire = bootstrapped()
    wire.begin("lost", ["a"], 0)
    for number in range(1, 5000):
        write(wire, f"t{number}", a=number, b=number)
    assert wire.visible == {}
    assert wire.state["waiting"] <= 1001  # type: ignore[operator]
    wire.abort("lost")
    assert wire.visible == {"a": 4999, "b": 4999}
    assert wire.state["waiting"] == 0 and wire.state["pending"] == {}


def test_what_is_joined_to_save_memory_still_stays_whole() -> None:
    wire = bootstrapped()
    wire.begin("lost", ["a"], 0)
    write(wire, "first", a=1, c=1)
    for number in range(2, 3000):
        write(wire, f"t{number}", a=number, b=number)
    # Something else waits and is released, so that limits are computed anew.
    wire.begin("other", ["d"], 0)
    write(wire, "waits", d=1)
    wire.abort("other")
    write(wire, "last", c=2)
    assert wire.visible == {"d": 1}
    wire.abort("lost")
    assert wire.visible == {"a": 2999, "b": 2999, "c": 2, "d": 1}


# Against the definition

STORAGES = "abc"


@dataclass
class Truth:
    """Storages that give out TIDs, transactions, and what messages told of them."""

    last: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STORAGES, 0))
    #: What was heard of in COMMITs.
    known: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STORAGES, 0))
    #: Begun: the storages and the last known TIDs then.
    pending: dict[str, dict[str, int]] = field(default_factory=dict)
    #: Really written, whether the COMMIT has come or not.
    written: dict[str, dict[str, int]] = field(default_factory=dict)
    ended: list[dict[str, int]] = field(default_factory=list)

    def finish(self, name: str) -> None:
        tids = {}
        for storage in self.pending[name]:
            self.last[storage] += 1
            tids[storage] = self.last[storage]
        self.written[name] = tids

    def greatest(self) -> dict[str, int]:
        """By trying all vectors: the greatest that may be published."""
        best = dict.fromkeys(STORAGES, 0)
        ranges = [range(self.last[storage] + 1) for storage in STORAGES]
        for values in itertools.product(*ranges):
            vector = dict(zip(STORAGES, values, strict=True))
            if self._may_be_published(vector):
                best = {s: max(best[s], vector[s]) for s in STORAGES}
        assert self._may_be_published(best)
        return {s: tid for s, tid in best.items() if tid}

    def _may_be_published(self, vector: Mapping[str, int]) -> bool:
        return (
            all(
                vector[storage] <= floor
                for floors in self.pending.values()
                for storage, floor in floors.items()
            )
            and all(holds_all_or_none(vector, tids) for tids in self.ended)
            and all(
                not tid or any(tids.get(s) == tid for tids in self.ended)
                for s, tid in vector.items()
            )
        )


def holds_all_or_none(vector: Mapping[str, int], tids: Mapping[str, int]) -> bool:
    return len({tid <= vector.get(storage, 0) for storage, tid in tids.items()}) < 2


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "finish", "finish", "commit", "abort"]),
        st.integers(0, 5),
        st.sets(st.sampled_from(STORAGES), min_size=1),
    ),
    max_size=24,
)


@given(STEPS)
def test_it_publishes_the_greatest_vector_that_splits_nothing(steps: list) -> None:
    """Messages in the order of what happened: never torn, never behind."""
    truth = Truth()
    torn: list[InDoubt] = []
    wire = bootstrapped(on_in_doubt=torn.append)
    for number, (step, choice, storages) in enumerate(steps):
        unwritten = [name for name in truth.pending if name not in truth.written]
        uncommitted = [name for name in truth.pending if name in truth.written]
        if step == "begin" and len(truth.pending) < 6:
            name = f"t{number}"
            truth.pending[name] = {s: truth.known[s] for s in storages}
            wire.begin(name, storages, 0)
        elif step == "finish" and unwritten:
            truth.finish(unwritten[choice % len(unwritten)])
        elif step == "abort" and unwritten:
            name = unwritten[choice % len(unwritten)]
            del truth.pending[name]
            wire.abort(name)
        elif step == "commit" and uncommitted:
            name = uncommitted[choice % len(uncommitted)]
            tids = truth.written[name]
            del truth.pending[name]
            truth.ended.append(tids)
            for storage, tid in tids.items():
                truth.known[storage] = max(truth.known[storage], tid)
            wire.commit(name, tids, 0)
        for tids in truth.written.values():
            assert holds_all_or_none(wire.visible, tids)
        assert wire.visible == truth.greatest()
    assert not torn


@given(STEPS, st.data())
def test_whatever_comes_it_never_goes_back_and_never_stays_blocked(
    steps: list, data: st.DataObject
) -> None:
    """Messages lost, repeated, late, incomplete: no exception, nothing taken back."""
    wire = bootstrapped()
    shown: dict[str, int] = {}
    for now, (step, choice, storages) in enumerate(steps):
        if step == "begin":
            wire.begin(str(choice), storages, now)
        elif step == "abort":
            wire.abort(str(choice))
        else:
            tids = {s: data.draw(st.integers(0, 9)) for s in storages}
            wire.commit(str(choice), tids, now)
        assert all(wire.visible.get(s, -1) >= tid for s, tid in shown.items())
        shown = dict(wire.visible)
    wire.expire(10_000)
    state = wire.state
    assert state["pending"] == {} and state["waiting"] == 0
