"""``bin/cluster points``: the coherency points, and what can be had back."""

import argparse
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.system import clock
from tidstorage.system.clock import local, span
from tidstorage.verbs.moments.listed_points import (
    ListedPoint,
    PointsAndRanges,
    list_points_and_ranges,
)
from tidstorage.verbs.moments.reachable_ranges import TimeRange

HELP = "List the coherency points and the reachable ranges, newest first."

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--all", action="store_true", help=f"all points, not just the newest {_SHOWN}"
    )


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Print points and ranges."""
    found = list_points_and_ranges(cluster, None if options.all else _SHOWN)
    if options.json:
        console.print_json(_as_json(found))
    else:
        _describe(found)
    return 0


def _describe(found: PointsAndRanges) -> None:
    if not found.points:
        console.print_line("There is no coherency point yet.")
        return
    now = clock.now()
    console.print_line(
        f"{len(found.points)} of {found.number} points"
        + ("" if len(found.points) == found.number else " (--all shows all)")
    )
    console.print_table(
        ("time", "age", "source", "verified", "half commits", "point", "set"),
        [
            (
                local(each.point.time),
                span(now - each.point.time),
                each.point.source,
                "yes" if each.point.verified else "NO",
                str(each.damage),
                each.point.id,
                ", ".join(each.sets),
            )
            for each in found.points
        ],
    )
    console.print_line()
    console.print_line("ranges of which every moment is still held, and gaps:")
    console.print_table(
        ("from", "to", "length", "timeline", "what", "half commits"),
        [
            (
                local(each.begin),
                local(each.end),
                span(each.end - each.begin),
                str(each.timeline),
                _what(each),
                "yes" if each.damaged else "none",
            )
            for each in found.ranges
        ],
    )


def _what(time_range: TimeRange) -> str:
    if time_range.is_gap:
        return f"GAP: {time_range.reason}"
    return ", ".join(time_range.sources)


def _as_json(found: PointsAndRanges) -> dict[str, Any]:
    return {
        "points": [_point_as_json(each) for each in found.points],
        "number": found.number,
        "ranges": [
            {
                "timeline": each.timeline,
                "begin": each.begin.isoformat(),
                "end": each.end.isoformat(),
                "reachable": not each.is_gap,
                "sources": list(each.sources),
                "reason": each.reason or None,
                "damaged": each.damaged,
            }
            for each in found.ranges
        ],
    }


def _point_as_json(listed: ListedPoint) -> dict[str, Any]:
    return {
        **listed.point.to_json(),
        "sets": list(listed.sets),
        "unacknowledged": listed.damage,
    }
