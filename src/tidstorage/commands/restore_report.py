"""What a restore did, or would do: for an operator, and for programs."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidstorage.coherence import tid
from tidstorage.coherence.point import TOLERATED
from tidstorage.commands import console
from tidstorage.system import clock
from tidstorage.system.clock import in_both, local, span
from tidstorage.verbs.moments.goal import Goal
from tidstorage.verbs.restore.effort import Effort
from tidstorage.verbs.restore.outcome import (
    Ended,
    OfSet,
    Outcome,
    Preview,
    Restored,
    RestoredElsewhere,
    ToBeEnded,
)


def describe(outcome: Outcome, into: Path | None) -> None:
    """What a restore did, or would do, for an operator."""
    console.print_line(
        f"{_verb(outcome)}: set {outcome.set_id}, now point {outcome.point.id}"
    )
    if isinstance(outcome, OfSet):
        _describe_set(outcome)
    if isinstance(outcome, Preview):
        _describe_effort(outcome, outcome.effort)
    elif isinstance(outcome, Restored) and outcome.reused:
        console.print_line(
            f"cut where they lie, since they began with what the set holds:"
            f" {', '.join(sorted(outcome.reused))}; what was cut off is kept as"
            f" *{outcome.dropped}"
        )
    if into is not None:
        console.print_line(f"in {into}")
    if kept := _kept(outcome):
        console.print_line(f"the old files are kept as *{kept}")


def _verb(outcome: Outcome) -> str:
    match outcome:
        case ToBeEnded():
            return "would be ended"
        case Ended():
            return "ended: the restore interrupted before"
        case Preview():
            return "would be restored"
        case _:
            return "restored"


def _describe_set(outcome: Restored | RestoredElsewhere | Preview) -> None:
    for then, now in outcome.renamed.items():
        console.print_line(f"storage {then} of the set is {now} now")
    for storage, number in outcome.lost_blobs.items():
        console.print_line(
            f"storage {storage}: {number:,} of its blobs were lost when the set was"
            " made, and come from an earlier one"
        )
    rows = [
        (storage, f"{size:,}", "" if kept is None else f"{size - kept:,}")
        for storage, (size, kept) in _sizes(outcome).items()
    ]
    console.print_table(("storage", "bytes in the set", "cut off"), rows)
    describe_state(outcome)


def _describe_effort(outcome: Preview, effort: Effort) -> None:
    """What a restore would read, write and take."""
    if outcome.reused:
        console.print_line(
            f"only to be cut, if they hold what the set holds:"
            f" {', '.join(sorted(outcome.reused))}"
        )
    for room in effort.rooms:
        console.print_line(
            f"{room.needed:,} bytes to write below {room.folder},"
            f" {room.free:,} are free"
        )
    if effort.seconds is None:
        console.print_line("how long it takes: nothing was measured here yet")
    else:
        length = span(datetime.timedelta(seconds=effort.seconds))
        console.print_line(
            f"how long it takes: about {length}, estimated from what was measured last"
        )


def describe_state(outcome: OfSet) -> None:
    """Of which moment the state is that was restored."""
    if outcome.goal is not None:
        _describe_goal(outcome, outcome.goal)
    if outcome.as_of is not None:
        age = span(clock.now() - outcome.as_of)
        console.print_line(
            f"the state of {local(outcome.as_of)}, {age} ago; nothing after it"
        )


def _describe_goal(outcome: OfSet, goal: Goal) -> None:
    """What was asked for, what was reached, and what is between the two."""
    console.print_line(f"asked for: {in_both(goal.moment)}")
    if goal.doubt > TOLERATED:
        console.print_line(
            f"how wide that is: up to {goal.doubt:.1f} s, since the clocks of servers"
            " and of this host differed, or were set: what was committed within that"
            " time of the moment may be there or not"
        )
    floor = "the start of the files"
    if goal.floor is not None:
        floor = f"point {goal.floor.id} of {local(goal.floor.time)}"
    cut = outcome.cut
    if cut is None:
        console.print_line(
            f"reached: at least {floor}; how much more, the restore itself finds out:"
            " the live files do not hold what the set holds"
        )
        return
    newest = "" if cut.newest is None else f"; the last one of {local(cut.newest)}"
    console.print_line(
        f"reached: {cut.transactions} transaction(s) after {floor}{newest}"
    )
    if cut.left_out is not None:
        console.print_line(
            f"left out: {cut.left_out.transactions} transaction(s) committed by"
            f" then, since {local(cut.left_out.since)}: they do not stand without"
            " later ones"
        )


def as_json(outcome: Outcome) -> dict[str, Any]:
    """What came of a restore, or would, for programs."""
    of_set: dict[str, Any] = {"renamed": {}, "as_of": None, "missing_blobs": {}}
    if isinstance(outcome, OfSet):
        as_of = outcome.as_of and outcome.as_of.isoformat()
        missing = {id: list(paths) for id, paths in outcome.missing_blobs.items()}
        of_set = {"renamed": dict(outcome.renamed), "as_of": as_of}
        of_set |= {"missing_blobs": missing}
        of_set |= _goal_as_json(outcome)
    return {
        "set": outcome.set_id,
        "point": outcome.point.to_json(),
        "storages": {
            storage: {"bytes": size, "kept": kept}
            for storage, (size, kept) in _sizes(outcome).items()
        },
        "old_files": _kept(outcome),
        "resumed": isinstance(outcome, Ended | ToBeEnded),
        "reused": (
            sorted(outcome.reused) if isinstance(outcome, Restored | Preview) else []
        ),
        "dropped": outcome.dropped if isinstance(outcome, Restored) else None,
        "effort": (
            _effort_as_json(outcome.effort) if isinstance(outcome, Preview) else None
        ),
        **of_set,
    }


def _sizes(outcome: Outcome) -> Mapping[str, tuple[int, int | None]]:
    """{storage id: (bytes in the set, bytes kept; None where nothing is done yet)}."""
    if isinstance(outcome, Preview):
        return {storage: (size, None) for storage, size in outcome.sizes.items()}
    if isinstance(outcome, Restored | RestoredElsewhere):
        return {**outcome.sizes}
    return {}


def _kept(outcome: Outcome) -> str | None:
    return outcome.kept if isinstance(outcome, Restored | Ended) else None


def _effort_as_json(effort: Effort) -> dict[str, Any]:
    return {
        "rooms": [
            {"folder": str(room.folder), "needed": room.needed, "free": room.free}
            for room in effort.rooms
        ],
        "copied": effort.copied,
        "compared": effort.compared,
        "estimated_seconds": effort.seconds,
    }


def _goal_as_json(outcome: OfSet) -> dict[str, Any]:
    """Nothing where a set's own point was asked for."""
    goal, cut = outcome.goal, outcome.cut
    if goal is None:
        return {}
    return {
        "asked": goal.moment.isoformat(),
        "doubt": round(goal.doubt, 3),
        "floor": goal.floor and goal.floor.id,
        "reached": cut
        and {
            "vector": tid.vector_to_text(cut.vector),
            "transactions": cut.transactions,
            "newest": cut.newest and cut.newest.isoformat(),
            "left_out": cut.left_out and cut.left_out.to_json(),
        },
    }
