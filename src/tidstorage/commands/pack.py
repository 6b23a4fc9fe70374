"""``bin/cluster pack``: back up, pack every storage below its point, back up."""

import argparse
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.commands import console, progress_display
from tidstorage.commands.front import add_dry_run, add_json, parse_number
from tidstorage.system import clock
from tidstorage.verbs.pack.pack import Packed, pack
from tidstorage.verbs.pack.plan import PackPlan, PlannedStorage, plan

_MOST_DAYS = 36_500
HELP = "Remove old history from all storages, with a backup before and after."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)
    parser.add_argument(
        "--days",
        type=_parse_days,
        metavar="N",
        help="keep the history of the last N days (default: keep-days of [pack])",
    )
    parser.add_argument(
        "--gc-is-off",
        action="store_true",
        help="you know that the ZEO servers have pack-gc false, where this program"
        " cannot see it; a server without that destroys objects to which only other"
        " databases refer",
    )
    add_dry_run(parser, "say up to which times storages would be packed")
    progress_display.add_option(parser)


def _parse_days(text: str) -> float:
    return parse_number(text, "days", _MOST_DAYS)


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Pack, and print what that has freed."""
    days = cluster.pack.keep_days if options.days is None else options.days
    if options.dry_run:
        planned = plan(cluster, days, gc_is_off=options.gc_is_off)
        _print_plan(planned, options.json)
        return 0
    tell = console.print_nothing if options.json else console.print_progress
    with progress_display.show_progress(options) as show:
        packed = pack(cluster, days, gc_is_off=options.gc_is_off, tell=tell, show=show)
    if options.json:
        console.print_json(_as_json(packed))
    else:
        _describe(packed)
    return 0


def _describe(packed: Packed) -> None:
    console.print_line(
        f"backed up before: set {packed.set_before.id}, point {packed.floor.id}"
    )
    console.print_table(
        ("storage", "packed up to", "bytes before", "bytes after"),
        [
            (
                storage.plan.id,
                _format_time(storage.plan) if storage.changed else "nothing to pack",
                f"{storage.plan.size:,}",
                f"{storage.size:,}",
            )
            for storage in packed.storages
        ],
    )
    if packed.set_after is not None:
        console.print_line(f"backed up after: set {packed.set_after.id}, which is full")


def _format_time(planned: PlannedStorage) -> str:
    return "" if planned.time is None else clock.local(planned.time)


def _print_plan(planned: PackPlan, as_json: bool) -> None:
    floor, storages = planned.floor, planned.storages
    if as_json:
        console.print_json(
            {
                "floor": floor.to_json(),
                "storages": [_planned_as_json(storage) for storage in storages],
            }
        )
        return
    console.print_line(
        "would be backed up, then packed below the point of that backup, or below"
        f" {floor.id} ({clock.local(floor.time)}):"
    )
    console.print_table(
        ("storage", "would be packed up to", "bytes"),
        [
            (storage.id, _format_time(storage), f"{storage.size:,}")
            for storage in storages
        ],
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
                **_planned_as_json(storage.plan),
                "changed": storage.changed,
                "size_after": storage.size,
                "last_packed": tid.to_text(storage.last_packed),
            }
            for storage in packed.storages
        ],
    }
