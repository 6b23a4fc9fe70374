"""``bin/cluster restore``: put the storages and blobs of one set back."""

import argparse
import datetime
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidstorage import barrier, local_time, point, processes, tid
from tidstorage.backup import sets
from tidstorage.cluster import Cluster
from tidstorage.commands import console, progress_display
from tidstorage.commands.progress_display import Shown, nobody_looks
from tidstorage.errors import NotCoherent, TidstorageError
from tidstorage.local_time import in_both, local, span
from tidstorage.restore import perform, swap
from tidstorage.restore.goal import Goal
from tidstorage.restore.perform import Report
from tidstorage.restore.plan import LATEST, Policy, Request
from tidstorage.restore.rehearsal import Effort
from tidstorage.stopping import Tell

_POINT_ID = re.compile(r"\d+-\d{8}T\d{6}\.\d{6}Z")
HELP = "Restore all storages and blobs as they were at a time, from backup sets."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_request(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be restored"
    )
    progress_display.add_option(parser)


def add_request(parser: argparse.ArgumentParser) -> None:
    """The options that say what to restore, and how."""
    add_moment(parser)
    damage = parser.add_mutually_exclusive_group()
    damage.add_argument(
        "--strict",
        action="store_const",
        dest="policy",
        const="strict",
        default="clean",
        help="leave out half commits and all that follows them",
    )
    damage.add_argument(
        "--tolerant",
        action="store_const",
        dest="policy",
        const="tolerant",
        help="keep half commits",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--stop", action="store_true", help="stop the cluster first, start it after"
    )
    where.add_argument(
        "--into", metavar="DIR", type=Path, help="restore into this empty folder"
    )
    parser.add_argument(
        "--copy",
        action="store_true",
        help="put all files together anew, also where cutting the present ones does",
    )
    parser.add_argument(
        "--storage",
        metavar="ID",
        action="append",
        dest="storages",
        help="with --into: this storage only; may be given again",
    )


def add_moment(parser: argparse.ArgumentParser) -> None:
    """The options that say which state is wanted."""
    parser.add_argument("--set", metavar="ID", help="the set (default: the newest)")
    parser.add_argument(
        "--to",
        metavar="WHEN",
        default=LATEST,
        help="a time, as '2026-11-22 14:05' (local without an offset), the id of a"
        " point, or latest",
    )
    parser.add_argument(
        "--timeline",
        metavar="N",
        type=int,
        help="which history, where restores have left several (default: the one that"
        " was lived then)",
    )


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Restore and say what was done."""
    asked = request(options)
    if options.dry_run and options.into is not None:
        report = perform.rehearse_elsewhere(cluster, asked, options.into)
    elif options.dry_run:
        report = perform.rehearse(cluster, asked)
    else:
        tell = console.print_progress
        shown = functools.partial(progress_display.shown, options)
        report = restore(cluster, asked, options.into, options.stop, tell, shown)
    warn_of_newer(cluster, report)
    if options.json:
        console.print_json(as_json(report))
    else:
        describe(cluster, report, options.dry_run, options.into)
    return 0


def request(options: argparse.Namespace) -> Request:
    """What the options ask for."""
    policy: Policy = options.policy
    if options.storages and options.into is None:
        raise NotCoherent(
            "some storages alone would not fit the others",
            "Restore them elsewhere: --into DIR.",
        )
    return Request(
        **moment(options),
        policy=policy,
        storages=frozenset(options.storages) if options.storages else None,
        reuse=not options.copy,
    )


def moment(options: argparse.Namespace) -> dict[str, Any]:
    """The state that `add_moment`'s options ask for, as parts of a request.

    WrongTime where it is no time, nor the id of a point.
    """
    asked: dict[str, Any] = {"set_id": options.set, "timeline": options.timeline}
    if options.to == LATEST or _POINT_ID.fullmatch(options.to):
        return {**asked, "point_id": options.to}
    return {**asked, "moment": local_time.parse(options.to)}


def restore(
    cluster: Cluster,
    asked: Request,
    into: Path | None,
    stop: bool,
    tell: Tell,
    shown: Shown = nobody_looks,
) -> Report:
    """As the options say: elsewhere, over a stopped cluster, or stopping it.

    tell: called with a line for each step of stopping and starting.  shown: for the
    length of the restore itself.
    """
    if into is not None:
        with shown() as show:
            return perform.elsewhere(cluster, asked, into, show)
    if not stop:
        with shown() as show:
            return perform.in_place(cluster, asked, show)
    # What cannot be restored is no reason to stop anything.
    perform.rehearse(cluster, asked)
    before = processes.up(cluster)
    try:
        processes.stop(cluster, tell=tell)
        with shown() as show:
            report = perform.in_place(cluster, asked, show)
    except BaseException as error:
        # A part that cannot be stopped is for the operator to deal with first.
        if before and not processes.up(cluster):
            _start_all_the_same(cluster, error, tell)
        _say_what_is_down(cluster, before, error, tell)
        raise
    try:
        processes.start(cluster, tell=tell)
        _check_running(cluster, report)
    except BaseException as error:
        _add(error, f"The restore itself is done: {_outcome(report)}.", tell)
        _say_what_is_down(cluster, before, error, tell)
        raise
    return report


def _start_all_the_same(cluster: Cluster, failure: BaseException, tell: Tell) -> None:
    """Start again what was stopped for a restore that failed, unless amid its swap.

    That this fails too must not hide why the restore did.
    """
    if swap.interrupted(cluster):
        return
    try:
        processes.start(cluster, tell=tell)
    except TidstorageError as error:
        if not isinstance(failure, TidstorageError):
            raise
        _add(failure, f"Nor did the cluster start: {error}", tell)


def _say_what_is_down(
    cluster: Cluster, before: Sequence[str], failure: BaseException, tell: Tell
) -> None:
    """Name what was up before and is not any more, and how to get it up again."""
    now = processes.up(cluster)
    down = ", ".join(each for each in before if each not in now)
    if not down:
        return
    said = f"Now down: {down}; bin/cluster start starts what is down"
    said += ", once the restore is done." if swap.interrupted(cluster) else "."
    _add(failure, said, tell)


def _add(failure: BaseException, more: str, tell: Tell) -> None:
    """Say more with a failure: in its hint, where it has one."""
    if isinstance(failure, TidstorageError):
        failure.hint = f"{failure.hint}\n{more}".lstrip()
    else:
        # An interruption by the keyboard, or a defect.
        tell(more)


def _outcome(report: Report) -> str:
    kept = f", the old files are kept as *{report.kept}" if report.kept else ""
    return f"set {report.set_id}, now point {report.point.id}{kept}"


def _check_running(cluster: Cluster, report: Report) -> None:
    """The servers that run now serve what was restored."""
    vector = barrier.take(barrier.storages_of(cluster))
    for storage, last in report.last_tids.items():
        if vector[storage] < last:
            raise NotCoherent(
                f"the server of storage {storage} ends at"
                f" {tid.to_text(vector[storage])}, before the restored point"
            )


def describe(
    cluster: Cluster, report: Report, dry_run: bool, into: Path | None
) -> None:
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
        age = span(point.now() - report.as_of)
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


def warn_of_newer(cluster: Cluster, report: Report) -> None:
    """Tell, however quiet the rest, that the newest data were not to be had."""
    if report.goal is not None:
        return
    for newer in passed_over(cluster, report.set_id):
        console.print_warning(newer)


def passed_over(cluster: Cluster, set_id: str) -> list[str]:
    """Newer sets that were not taken, and why."""
    directory = cluster.backup.directory
    found = [
        f"set {each.manifest.id} is newer, but not whole: {each.faults[0]}"
        for each in sets.every(directory)
        if each.manifest.id > set_id and each.faults
    ]
    return found + [str(error) for error in sets.manifests(directory)[1]]


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
