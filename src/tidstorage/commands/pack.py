"""``bin/cluster pack``: back up, pack every storage below its point, back up."""

import argparse
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.commands import console, progress_display
from tidstorage.commands.front import parse_number
from tidstorage.system import clock
from tidstorage.verbs.pack.pack import Packed, pack
from tidstorage.verbs.pack.plan import PackPlan, PlannedStorage, plan

_MOST_DAYS = 36_500
HELP = "Remove old history from all storages, with a backup before and after."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--days",
        type=_days,
        metavar="N",
        help="leave the history of the last N days (default: keep-days of [pack])",
    )
    parser.add_argument(
        "--gc-is-off",
        action="store_true",
        help="take it that servers collect no garbage (pack-gc false) where that"
        " cannot be seen; without it they would destroy what only other databases"
        " refer to",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say to which times it would be packed"
    )
    progress_display.add_option(parser)


def _days(text: str) -> float:
    return parse_number(text, "days", _MOST_DAYS)


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Pack, and say what that has freed."""
    days = cluster.pack.keep_days if options.days is None else options.days
    if options.dry_run:
        planned = plan(cluster, days, gc_is_off=options.gc_is_off)
        _say_what_would_be_done(planned, options.json)
        return 0
    tell = console.print_nothing if options.json else console.print_progress
    with progress_display.shown(options) as show:
        packed = pack(cluster, days, gc_is_off=options.gc_is_off, tell=tell, show=show)
    if options.json:
        console.print_json(_as_json(packed))
    else:
        _describe(packed)
    return 0


def _describe(packed: Packed) -> None:
    console.print_line(
        f"set {packed.set_before.id} was made before; point {packed.floor.id}"
    )
    console.print_table(
        ("storage", "packed up to", "bytes before", "bytes after"),
        [
            (
                each.plan.id,
                _time(each.plan) if each.changed else "nothing to pack",
                f"{each.plan.size:,}",
                f"{each.size:,}",
            )
            for each in packed.storages
        ],
    )
    if packed.set_after is not None:
        console.print_line(f"set {packed.set_after.id} was made after; it is full")


def _time(planned: PlannedStorage) -> str:
    return "" if planned.time is None else clock.local(planned.time)


def _say_what_would_be_done(planned: PackPlan, as_json: bool) -> None:
    if as_json:
        console.print_json(
            {
                "floor": planned.floor.to_json(),
                "storages": [_planned_as_json(each) for each in planned.storages],
            }
        )
        return
    console.print_line(
        f"would be backed up, then packed below point {planned.floor.id} or the new one"
        f" ({clock.local(planned.floor.time)}):"
    )
    console.print_table(
        ("storage", "would be packed up to", "bytes"),
        [(each.id, _time(each), f"{each.size:,}") for each in planned.storages],
    )


def _planned_as_json(planned: PlannedStorage) -> dict[str, Any]:
    return {
        "id": planned.id,
        "until": None if planned.time is None else planned.time.isoformat(),
        "below": tid.to_text(planned.below),
        "size": planned.size,
    }


def _as_json(packed: Packed) -> dict[str, Any]:
    return {
        "floor": packed.floor.to_json(),
        "set_before": packed.set_before.id,
        "set_after": None if packed.set_after is None else packed.set_after.id,
        "storages": [
            {
                **_planned_as_json(each.plan),
                "changed": each.changed,
                "size_after": each.size,
                "last_packed": tid.to_text(each.last_packed),
            }
            for each in packed.storages
        ],
    }
