"""``bin/cluster restore``: put the storages and blobs of one set back."""

import argparse
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.commands import console, progress_display, restore_report
from tidstorage.errors import NotCoherent, TidstorageError
from tidstorage.operation.progress import Shown, nobody_looks
from tidstorage.operation.unfinished import interrupted_swap
from tidstorage.processes import control
from tidstorage.processes.stopping import Tell
from tidstorage.sets import listing
from tidstorage.system import clock
from tidstorage.verbs.restore import restore as perform
from tidstorage.verbs.restore.plan import LATEST, Policy, Request
from tidstorage.verbs.restore.restore import Report
from tidstorage.zeo import barrier

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
        shown = functools.partial(progress_display.show_progress, options)
        report = restore(cluster, asked, options.into, options.stop, tell, shown)
    warn_of_newer(cluster, report)
    if options.json:
        console.print_json(restore_report.as_json(report))
    else:
        restore_report.describe(report, options.dry_run, options.into)
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
    return {**asked, "moment": clock.parse(options.to)}


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
    before = control.up(cluster)
    try:
        control.stop(cluster, tell=tell)
        with shown() as show:
            report = perform.in_place(cluster, asked, show)
    except BaseException as error:
        # A part that cannot be stopped is for the operator to deal with first.
        if before and not control.up(cluster):
            _start_all_the_same(cluster, error, tell)
        _say_what_is_down(cluster, before, error, tell)
        raise
    try:
        control.start(cluster, tell=tell)
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
    if interrupted_swap(cluster):
        return
    try:
        control.start(cluster, tell=tell)
    except TidstorageError as error:
        if not isinstance(failure, TidstorageError):
            raise
        _add(failure, f"Nor did the cluster start: {error}", tell)


def _say_what_is_down(
    cluster: Cluster, before: Sequence[str], failure: BaseException, tell: Tell
) -> None:
    """Name what was up before and is not any more, and how to get it up again."""
    now = control.up(cluster)
    down = ", ".join(each for each in before if each not in now)
    if not down:
        return
    said = f"Now down: {down}; bin/cluster start starts what is down"
    said += ", once the restore is done." if interrupted_swap(cluster) else "."
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
        for each in listing.every(directory)
        if each.manifest.id > set_id and each.faults
    ]
    return found + [str(error) for error in listing.manifests(directory)[1]]
