"""``bin/cluster points``: the coherency points, and the times that can be restored."""

import argparse
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.commands.front import add_json
from tidstorage.system import clock
from tidstorage.system.clock import local, span
from tidstorage.verbs.moments import reachable
from tidstorage.verbs.moments.reachable import ListedPoint, Reach, Stretch

HELP = "List the coherency points, and the times that can be restored, newest first."

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)
    parser.add_argument(
        "--all", action="store_true", help=f"all points, not only the newest {_SHOWN}"
    )


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Print points and ranges."""
    reach = reachable.reach(cluster, None if options.all else _SHOWN)
    if options.json:
        console.print_json(_as_json(reach))
    else:
        _describe(reach)
    return 0


def _describe(reach: Reach) -> None:
    if not reach.points:
        console.print_line("There is no coherency point yet.")
        return
    now = clock.now()
    console.print_line(
        f"{len(reach.points)} of {reach.number} points"
        + ("" if len(reach.points) == reach.number else " (--all shows all)")
    )
    console.print_table(
        ("time", "age", "source", "verified", "half commits", "point", "set"),
        [
            (
                local(listed.point.time),
                span(now - listed.point.time),
                listed.point.source,
                "yes" if listed.point.verified else "NO",
                str(listed.damage),
                listed.point.id,
                ", ".join(listed.sets),
            )
            for listed in reach.points
        ],
    )
    console.print_line()
    console.print_line(
        "reachable ranges (every moment in them can be restored), and gaps:"
    )
    console.print_table(
        ("from", "to", "length", "timeline", "what", "half commits"),
        [
            (
                local(stretch.begin),
                local(stretch.end),
                span(stretch.end - stretch.begin),
                str(stretch.timeline),
                _describe_stretch(stretch),
                "yes" if stretch.damaged else "none",
            )
            for stretch in reach.stretches
        ],
    )


def _describe_stretch(stretch: Stretch) -> str:
    if stretch.is_gap:
        return f"GAP: {stretch.reason}"
    return ", ".join(stretch.sources)


def _as_json(reach: Reach) -> dict[str, Any]:
    return {
        "points": [_point_as_json(listed) for listed in reach.points],
        "number": reach.number,
        "ranges": [
            {
                "timeline": stretch.timeline,
                "begin": stretch.begin.isoformat(),
                "end": stretch.end.isoformat(),
                "reachable": not stretch.is_gap,
                "sources": list(stretch.sources),
                "reason": stretch.reason or None,
                "damaged": stretch.damaged,
            }
            for stretch in reach.stretches
        ],
    }


def _point_as_json(listed: ListedPoint) -> dict[str, Any]:
    return {
        **listed.point.to_json(),
        "sets": list(listed.sets),
        "unacknowledged": listed.damage,
    }
