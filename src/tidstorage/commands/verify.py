"""``bin/cluster verify``: are the backup sets still what was written?"""

import argparse
import datetime
import math
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.commands import console, progress_display
from tidstorage.errors import VerificationFailed
from tidstorage.sets.verdicts import DEPTHS
from tidstorage.system.clock import local
from tidstorage.verbs.verify.costs import Cost
from tidstorage.verbs.verify.objects import MOST_TOLD
from tidstorage.verbs.verify.verify import (
    SetVerdict,
    Verification,
    VerifyRequest,
    verify,
)

HELP = "Verify backup sets: sizes, digests, or a restore with every object read."
_MOST_PRINTED = 20
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "sets",
        nargs="*",
        metavar="SET",
        help='ids of sets, or "latest" (default: what [verify] says)',
    )
    parser.add_argument("--all", action="store_true", help="all sets, newest first")
    parser.add_argument(
        "--depth",
        choices=DEPTHS,
        help="sizes of files; digests of files and blobs; or objects, by a restore to"
        " scratch (default: what [verify] says)",
    )
    parser.add_argument(
        "--budget",
        type=_duration,
        metavar="TIME",
        help="end after this time, as 90m or 4h; the same command goes on there",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    progress_display.add_option(parser)


def _duration(text: str) -> datetime.timedelta:
    try:
        seconds = float(text[:-1]) * _SECONDS[text[-1:]]
        if not 0 <= seconds < math.inf:
            raise ValueError
        return datetime.timedelta(seconds=seconds)
    except (KeyError, ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no length of time: a number with s, m, h or d"
        ) from None


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Verify and say what was found; VerificationFailed's status if anything was."""
    with progress_display.shown(options) as show:
        report = verify(cluster, _request(options, cluster), show)
    if options.json:
        console.print_json(_as_json(report))
    else:
        _describe(report)
    for each in report.costs:
        console.print_error(f"{each.path} {each.what}", _explain(each))
    if report.untold:
        console.print_error(f"{report.untold:,} more files are bad")
    for result in report.sets:
        _tell_losses(result)
    return 0 if report.is_good else VerificationFailed.exit_status


def _request(options: argparse.Namespace, cluster: Cluster) -> VerifyRequest:
    configured = cluster.verify
    if options.all:
        which: Any = "all"
    elif options.sets == ["latest"]:
        which = "latest"
    else:
        which = tuple(sorted(options.sets)) or configured.sets
    return VerifyRequest(
        which,
        options.depth or configured.depth,
        configured.time_budget if options.budget is None else options.budget,
    )


def _describe(report: Verification) -> None:
    columns = ["set", report.depth, "as of"]
    rows = [
        [each.set_id, each.state, local(each.at) if each.at else ""]
        for each in report.sets
    ]
    if report.depth == "objects":
        columns += ["objects", "lost"]
        for row, each in zip(rows, report.sets, strict=True):
            row += [f"{each.objects:,}", str(each.lost)]
    console.print_table(columns, rows)
    if not report.is_finished:
        console.print_line("The time is over: the same command goes on from here.")


def _tell_losses(result: SetVerdict) -> None:
    for loss in result.losses[:_MOST_PRINTED]:
        console.print_error(
            f"set {result.set_id}: in storage {loss.storage} object 0x{loss.oid}"
            f" {loss.what}"
        )
    if result.lost:
        console.print_error(
            f"set {result.set_id}: its data lack {_at_least(result)} in all",
            "The copies are what was written: a restore gives just this. Look whether"
            " the live data lack it, too (bin/cluster damage tells of half commits),"
            " and for an older set that has it.",
        )


def _at_least(result: SetVerdict) -> str:
    number = f"{result.lost:,}"
    return number if result.lost < MOST_TOLD else f"{number} things or more"


def _explain(cost: Cost) -> str:
    """What is lost with a file, and what to do."""
    if cost.kind == "index":
        return (
            "Remove it: every set is whole without, and a restore by stock repozo, or"
            " the next backup, would build on what is wrong in it."
        )
    lines = []
    if cost.storage is not None:
        lines.append(f"It is a {cost.kind} file of storage {cost.storage}.")
    if cost.after is not None and cost.last is not None:
        count = "" if cost.transactions is None else f"{cost.transactions:,} "
        since = f"after {local(tid.to_time(cost.after))} " if cost.after else ""
        lines.append(
            f"It holds the {count}transactions {since}up to"
            f" {local(tid.to_time(cost.last))}"
            f" ({tid.to_text(cost.after)} < TID <= {tid.to_text(cost.last)})."
        )
        if cost.kind == "data" and cost.transactions is not None:
            lines.append("The live file still has them.")
    lines.append(f"Not whole without it: {', '.join(cost.sets)}.")
    if cost.instead is None:
        lines.append("No other set is whole: back up at once (bin/cluster backup).")
    else:
        lines.append(f"The newest whole set is {cost.instead}.")
        lines.append("The next backup builds on nothing that is broken.")
    return " ".join(lines)


def _as_json(report: Verification) -> dict[str, Any]:
    return {
        "depth": report.depth,
        "finished": report.is_finished,
        "good": report.is_good,
        "sets": [
            {
                "id": each.set_id,
                "state": each.state,
                "at": each.at and each.at.isoformat(),
                "objects": each.objects,
                "lost": each.lost,
                "losses": [loss.model_dump() for loss in each.losses],
            }
            for each in report.sets
        ],
        "faults": [each.to_json() for each in report.costs],
        "more_faults": report.untold,
    }
