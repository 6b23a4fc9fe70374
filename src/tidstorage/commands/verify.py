"""``bin/cluster verify``: whether the backup sets are still what was written."""

import argparse
import datetime
import math
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.commands import console, progress_display
from tidstorage.commands.front import add_json
from tidstorage.errors import SetUnreadable
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

HELP = "Verify backup sets: sizes, digests, or every object of a trial restore."
_MOST_PRINTED = 20
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "sets",
        nargs="*",
        metavar="SET",
        help='the id of a set, or "latest" (default: what [verify] says)',
    )
    parser.add_argument(
        "--all", action="store_true", help="verify all sets, newest first"
    )
    parser.add_argument(
        "--depth",
        choices=DEPTHS,
        help="the sizes of files; the digests of files and blobs; or every object, by a"
        " restore into a scratch folder (default: what [verify] says)",
    )
    parser.add_argument(
        "--budget",
        type=_parse_duration,
        metavar="TIME",
        help="stop after this time, as 90m or 4h; the next run goes on from there",
    )
    add_json(parser)
    progress_display.add_option(parser)


def _parse_duration(text: str) -> datetime.timedelta:
    try:
        seconds = float(text[:-1]) * _SECONDS[text[-1:]]
        if not 0 <= seconds < math.inf:
            raise ValueError
        return datetime.timedelta(seconds=seconds)
    except (KeyError, ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"expected a number with s, m, h or d, as 90m, not {text!r}"
        ) from None


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Verify, and print the result.

    The status is VerificationFailed's where something is bad, and SetUnreadable's
    where something could not be read.
    """
    with progress_display.show_progress(options) as show:
        report = verify(cluster, _make_request(options, cluster), show)
    if options.json:
        console.print_json(_as_json(report))
    else:
        _describe(report)
    for cost in report.costs:
        console.print_error(f"{cost.path} {cost.what}", _explain_cost(cost))
    for cost in report.unread:
        console.print_error(f"{cost.path} {cost.what}", _explain_unread(cost))
    if report.untold:
        words = "are bad" if not report.unread else "are bad, or could not be read"
        console.print_error(f"{report.untold:,} more files {words}")
    for result in report.sets:
        _tell_losses(result)
    return report.exit_status


def _make_request(options: argparse.Namespace, cluster: Cluster) -> VerifyRequest:
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
        [result.set_id, result.state, local(result.at) if result.at else ""]
        for result in report.sets
    ]
    if report.depth == "objects":
        columns += ["objects", "lost"]
        for row, result in zip(rows, report.sets, strict=True):
            row += [f"{result.objects:,}", str(result.lost)]
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
            f"set {result.set_id}: its data lack {_format_lost(result)} in all",
            "The files of the set are as they were written, so the data lacked this"
            " when it was backed up, and a restore lacks it, too. Does the live data"
            " lack it (bin/cluster damage shows half commits)? Look for an older set"
            " that has it.",
        )


def _format_lost(result: SetVerdict) -> str:
    number = f"{result.lost:,}"
    return number if result.lost < MOST_TOLD else f"{number} things or more"


def _explain_cost(cost: Cost) -> str:
    """What is lost with a file, and what to do."""
    if cost.kind == "index":
        return (
            "Remove it: every set is whole without it. If it stays, the next backup, or"
            " a restore by stock repozo, uses what is wrong in it."
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
    lines.append(f"Sets that are not whole without it: {', '.join(cost.sets)}.")
    if cost.instead is None:
        lines.append("No other set is whole: back up at once (bin/cluster backup).")
    else:
        lines.append(f"The newest whole set is {cost.instead}.")
        lines.append("The next backup does not build on broken files.")
    return " ".join(lines)


def _explain_unread(cost: Cost) -> str:
    """What is not known, and what to do."""
    sets = ", ".join(cost.sets)
    if cost.kind == "index":
        return f"Every set is whole without it. {SetUnreadable.hint}"
    needs = "" if cost.kind in ("manifest", "set") else f"Sets that need it: {sets}. "
    return (
        f"{needs}Nobody knows whether they are whole: none is given up for it, and"
        f" none of them counts as good. {SetUnreadable.hint}"
    )


def _as_json(report: Verification) -> dict[str, Any]:
    return {
        "depth": report.depth,
        "finished": report.is_finished,
        "good": report.is_good,
        "sets": [
            {
                "id": result.set_id,
                "state": result.state,
                "at": result.at and result.at.isoformat(),
                "objects": result.objects,
                "lost": result.lost,
                "losses": [loss.model_dump() for loss in result.losses],
            }
            for result in report.sets
        ],
        "faults": [cost.to_json() for cost in report.costs],
        "unread": [cost.to_json() for cost in report.unread],
        "more_faults": report.untold,
    }
