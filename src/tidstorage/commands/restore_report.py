"""What a restore did, or would do: for an operator, and for programs."""

import datetime
from pathlib import Path
from typing import Any

from tidstorage.coherence import tid
from tidstorage.commands import console
from tidstorage.system import clock
from tidstorage.system.clock import in_both, local, span
from tidstorage.verbs.moments.goal import Goal
from tidstorage.verbs.restore.rehearsal import Effort
from tidstorage.verbs.restore.restore import Report


def describe(report: Report, dry_run: bool, into: Path | None) -> None:
    """What a restore did, or would do, for an operator."""
    verb = "would be restored" if dry_run else "restored"
    if report.resumed:
        verb = "would be ended" if dry_run else "ended: the restore interrupted before"
    console.print_line(f"{verb}: set {report.set_id}, now point {report.point.id}")
    rows = [
        (storage, f"{size:,}", "" if kept is None else f"{size - kept:,}")
        for storage, (size, kept) in report.sizes.items()
    ]
    for then, now in report.renamed.items():
        console.print_line(f"storage {then} of the set is {now} now")
    if rows:
        console.print_table(("storage", "bytes in the set", "cut off"), rows)
    describe_state(report)
    if report.effort is not None:
        _describe_effort(report, report.effort)
    elif report.reused:
        console.print_line(
            f"cut where they lie, since they began with what the set holds:"
            f" {', '.join(sorted(report.reused))}; what was cut off is kept as"
            f" *{report.dropped}"
        )
    if into is not None:
        console.print_line(f"in {into}")
    if report.kept:
        console.print_line(f"the old files are kept as *{report.kept}")


def _describe_effort(report: Report, effort: Effort) -> None:
    """What a restore would read, write and take."""
    if report.reused:
        console.print_line(
            f"only to be cut, if they hold what the set holds:"
            f" {', '.join(sorted(report.reused))}"
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


def describe_state(report: Report) -> None:
    """Of which moment the state is that was restored."""
    if report.goal is not None:
        _describe_goal(report, report.goal)
    if report.as_of is not None:
        age = span(clock.now() - report.as_of)
        console.print_line(
            f"the state of {local(report.as_of)}, {age} ago; nothing after it"
        )


def _describe_goal(report: Report, goal: Goal) -> None:
    """What was asked for, what was reached, and what is between the two."""
    console.print_line(f"asked for: {in_both(goal.moment)}")
    floor = "the start of the files"
    if goal.floor is not None:
        floor = f"point {goal.floor.id} of {local(goal.floor.time)}"
    found = report.cut
    if found is None:
        console.print_line(
            f"reached: at least {floor}; how much more, the restore itself finds out:"
            " the live files do not hold what the set holds"
        )
        return
    newest = "" if found.newest is None else f"; the last one of {local(found.newest)}"
    console.print_line(
        f"reached: {found.transactions} transaction(s) after {floor}{newest}"
    )
    if found.left_out is not None:
        console.print_line(
            f"left out: {found.left_out.transactions} transaction(s) committed by"
            f" then, since {local(found.left_out.since)}: they do not stand without"
            " later ones"
        )


def as_json(report: Report) -> dict[str, Any]:
    """The report of a restore, for programs."""
    return {
        "set": report.set_id,
        "point": report.point.to_json(),
        "storages": {
            storage: {"bytes": size, "kept": kept}
            for storage, (size, kept) in report.sizes.items()
        },
        "old_files": report.kept,
        "resumed": report.resumed,
        "reused": sorted(report.reused),
        "dropped": report.dropped,
        "effort": report.effort
        and {
            "rooms": [
                {"folder": str(each.folder), "needed": each.needed, "free": each.free}
                for each in report.effort.rooms
            ],
            "copied": report.effort.copied,
            "compared": report.effort.compared,
            "estimated_seconds": report.effort.seconds,
        },
        "renamed": dict(report.renamed),
        "as_of": report.as_of and report.as_of.isoformat(),
        **_goal_as_json(report),
    }


def _goal_as_json(report: Report) -> dict[str, Any]:
    """Nothing where a set's own point was asked for."""
    goal, found = report.goal, report.cut
    if goal is None:
        return {}
    return {
        "asked": goal.moment.isoformat(),
        "floor": goal.floor and goal.floor.id,
        "reached": found
        and {
            "vector": tid.vector_to_text(found.vector),
            "transactions": found.transactions,
            "newest": found.newest and found.newest.isoformat(),
            "left_out": found.left_out and found.left_out.to_json(),
        },
    }
