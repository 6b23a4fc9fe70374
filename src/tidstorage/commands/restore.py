"""``bin/cluster restore``: put the storages and blobs of one set back."""

import argparse
import functools
import re
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console, progress_display, restore_report
from tidstorage.errors import WrongUsage
from tidstorage.sets.blob_losses import describe_missing
from tidstorage.system import clock
from tidstorage.verbs.restore.around import restore
from tidstorage.verbs.restore.outcome import OfSet, Outcome
from tidstorage.verbs.restore.plan import LATEST, Policy, Request
from tidstorage.verbs.restore.restore import (
    plan_elsewhere,
    preview,
    preview_in_place,
)

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
        "--adopt",
        action="store_true",
        help="though the backups are another cluster's, whose place this one takes",
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
    asked, into = request(options), options.into
    outcome: Outcome
    if not options.dry_run:
        tell = console.print_progress
        shown = functools.partial(progress_display.show_progress, options)
        outcome = restore(cluster, asked, into, options.stop, tell, shown)
    elif into is None:
        outcome = preview_in_place(cluster, asked)
    else:
        outcome = preview(plan_elsewhere(cluster, asked, into))
    warn_of_lacks(outcome)
    if options.json:
        console.print_json(restore_report.as_json(outcome))
    else:
        restore_report.describe(outcome, into)
    return 0


def warn_of_lacks(outcome: Outcome) -> None:
    """Tell, however quiet the rest, which data were not to be had."""
    if isinstance(outcome, OfSet):
        for reason in outcome.passed_over:
            console.print_warning(reason)
        for storage_id, missing in outcome.missing_blobs.items():
            console.print_warning(describe_missing(storage_id, missing))


def request(options: argparse.Namespace) -> Request:
    """What the options ask for."""
    policy: Policy = options.policy
    if options.storages and options.into is None:
        raise WrongUsage(
            "some storages alone would not fit the others",
            "Restore them elsewhere: --into DIR.",
        )
    return Request(
        **moment(options),
        policy=policy,
        storages=frozenset(options.storages) if options.storages else None,
        reuse=not options.copy,
        adopt=options.adopt,
    )


def moment(options: argparse.Namespace) -> dict[str, Any]:
    """The state that `add_moment`'s options ask for, as parts of a request.

    Raises: WrongTime: where it is no time, nor the id of a point.
    """
    asked: dict[str, Any] = {"set_id": options.set, "timeline": options.timeline}
    if options.to == LATEST or _POINT_ID.fullmatch(options.to):
        return {**asked, "point_id": options.to}
    return {**asked, "moment": clock.parse(options.to)}
