"""``bin/cluster points``: the coherency points, and the times that can be restored."""

import argparse
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import TOLERATED
from tidstorage.commands import console
from tidstorage.commands.front import add_json
from tidstorage.errors import SetUnreadable
from tidstorage.system import clock
from tidstorage.system.clock import local, span
from tidstorage.verbs.moments.listed_points import (
    ListedPoint,
    PointsAndRanges,
    list_points_and_ranges,
)
from tidstorage.verbs.moments.reachable_ranges import TimeRange

HELP = "List the coherency points, and the times that can be restored, newest first."

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)
    parser.add_argument(
        "--all", action="store_true", help=f"all points, not only the newest {_SHOWN}"
    )


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Print points and ranges.

    The status is SetUnreadable's where more may be restorable than is told.
    """
    listed = list_points_and_ranges(cluster, None if options.all else _SHOWN)
    if options.json:
        console.print_json(_as_json(listed))
    else:
        _describe(listed)
    for what in listed.unread:
        console.print_error(
            f"whether this set is whole is not known: {what}", SetUnreadable.hint
        )
    return SetUnreadable.exit_status if listed.unread else 0


def _describe(listed: PointsAndRanges) -> None:
    if not listed.points:
        console.print_line("There is no coherency point yet.")
        return
    now = clock.now()
    console.print_line(
        f"{len(listed.points)} of {listed.number} points"
        + ("" if len(listed.points) == listed.number else " (--all shows all)")
    )
    console.print_table(
        ("time", "age", "source", "verified", "half commits", "doubt", "point", "set"),
        [
            (
                local(shown.point.time),
                span(now - shown.point.time),
                shown.point.source,
                "yes" if shown.point.verified else "NO",
                str(shown.damage),
                _describe_doubt(shown.point.doubt),
                shown.point.id,
                ", ".join(shown.sets),
            )
            for shown in listed.points
        ],
    )
    console.print_line()
    console.print_line(
        "reachable ranges (every moment in them can be restored), and gaps:"
    )
    console.print_table(
        ("from", "to", "length", "timeline", "what", "half commits", "doubt"),
        [
            (
                local(time_range.begin),
                local(time_range.end),
                span(time_range.end - time_range.begin),
                str(time_range.timeline),
                _describe_range(time_range),
                "yes" if time_range.damaged else "none",
                _describe_doubt(time_range.doubt),
            )
            for time_range in listed.ranges
        ],
    )


def _describe_doubt(seconds: float) -> str:
    """How wide a time is, where that is worth a word."""
    return f"{seconds:.1f} s" if seconds > TOLERATED else ""


def _describe_range(time_range: TimeRange) -> str:
    if time_range.is_gap:
        return f"GAP: {time_range.reason}"
    return ", ".join(time_range.sources)


def _as_json(listed: PointsAndRanges) -> dict[str, Any]:
    return {
        "points": [_point_as_json(shown) for shown in listed.points],
        "number": listed.number,
        "unread": list(listed.unread),
        "ranges": [
            {
                "timeline": time_range.timeline,
                "begin": time_range.begin.isoformat(),
                "end": time_range.end.isoformat(),
                "reachable": not time_range.is_gap,
                "sources": list(time_range.sources),
                "reason": time_range.reason or None,
                "damaged": time_range.damaged,
                "doubt": round(time_range.doubt, 3),
            }
            for time_range in listed.ranges
        ],
    }


def _point_as_json(listed: ListedPoint) -> dict[str, Any]:
    return {
        **listed.point.to_json(),
        "sets": list(listed.sets),
        "unacknowledged": listed.damage,
        "doubt": round(listed.point.doubt, 3),
    }
