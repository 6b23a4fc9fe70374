"""``bin/cluster status``: what runs, the newest backup, the daemon's point."""

import argparse
import datetime
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.commands import console, progress_display
from tidstorage.errors import NotReady
from tidstorage.system import clock
from tidstorage.system.clock import local, span
from tidstorage.verbs.status.status import PartStatus, Status, status

#: What a transaction says of its writer.
_WORDS = ("user", "description")

HELP = "Show what runs, the newest backup set and the daemon's point."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Print it; exit status 0 if every part runs, else NotReady's."""
    found = status(cluster)
    if options.json:
        console.print_json(_as_json(found))
    else:
        _describe(cluster, found)
    complete = all(each.state == "running" for each in found.parts)
    return 0 if complete else NotReady.exit_status


def _describe(cluster: Cluster, found: Status) -> None:
    console.print_table(
        ("part", "state", "pid", "address", "since"),
        [
            (
                each.part.label,
                _state(each),
                ", ".join(map(str, each.pids)),
                each.part.address_text,
                local(each.since) if each.since else "",
            )
            for each in found.parts
        ],
    )
    console.print_line()
    for operation in found.operations:
        console.print_line(progress_display.sentence(operation))
    if found.no_sets is not None:
        console.print_line(found.no_sets, "red")
    elif found.newest_set is None:
        console.print_line(f"There is no backup set in {cluster.backup.directory}.")
    else:
        newest = found.newest_set
        age = span(clock.now() - newest.point.time)
        console.print_line(
            f"newest backup set: {newest.id}, point of {local(newest.point.time)}"
            f" ({age} ago)"
        )
    _describe_runs(found)
    if found.dump is not None:
        console.print_line("the daemon's point:")
        for storage, last in sorted(found.dump.items()):
            console.print_line(f"  {storage}  {tid.to_text(last)}")
    if found.coverage is not None:
        _describe_coverage(found.coverage)


def _describe_runs(found: Status) -> None:
    """The last run of each verb that ever ran, and what is wrong with them."""
    for verb, results in found.runs.items():
        if results is not None:
            last = results.last
            took = "" if last.ended is None else f", {span(last.ended - last.begun)}"
            console.print_line(f"last {verb}: {last.state}, {local(last.begun)}{took}")
            for warning in last.warnings:
                console.print_line(f"  it warned: {warning}", "yellow")
    for alarm in found.alarms:
        console.print_line(alarm, "red")


def _describe_coverage(coverage: dict[str, Any]) -> None:
    for lost in coverage.get("lost_timeline", ()):
        console.print_line(
            f"{lost['writer']} writes what it knows of a lost timeline: commit"
            f" {lost['commit']} on {lost['storage']}; nothing past it is published."
            "  Stop every Zope, then bin/cluster rebase",
            "red",
        )
    never = coverage["never_seen_stamping"]
    if never:
        since = local(datetime.datetime.fromisoformat(coverage["since"]))
        console.print_line(
            f"never seen stamping since {since}: {', '.join(never)}"
            " (they lack the product, or wrote nothing)",
            "yellow",
        )
    for storage, found in sorted(coverage["unstamped"].items()):
        moment = local(datetime.datetime.fromisoformat(found["time"]))
        said = [f'{key} "{found[key]}"' for key in _WORDS if found.get(key)]
        console.print_line(
            f"written without stamps: {found['count']} on {storage}, the last"
            f" {', '.join([moment, *said])}",
            "yellow",
        )


def _state(found: PartStatus) -> str:
    state = found.state
    if state == "silent":
        state += f" ({found.reason})"
    if found.pids and found.part.managed and not found.supervised:
        state += ", not supervised"
    return state


def _as_json(found: Status) -> dict[str, Any]:
    newest = found.newest_set
    return {
        "parts": [
            {
                "kind": each.part.kind,
                "name": each.part.name,
                "program": each.part.program,
                "managed": each.part.managed,
                "state": each.state,
                "reason": each.reason,
                "pids": list(each.pids),
                "address": each.part.address_text,
                "since": each.since.isoformat() if each.since else None,
                "supervised": each.supervised,
            }
            for each in found.parts
        ],
        "newest_set": (
            None
            if newest is None
            else {
                "id": newest.id,
                "kind": newest.kind,
                "point": newest.point.to_json(),
            }
        ),
        "no_sets": found.no_sets,
        "runs": {
            verb: None
            if each is None
            else {
                "last": each.last.to_json(),
                "good": None if each.good is None else each.good.to_json(),
            }
            for verb, each in found.runs.items()
        },
        "alarms": list(found.alarms),
        "operations": [each.to_json() for each in found.operations],
        "dump": None if found.dump is None else tid.vector_to_text(found.dump),
        "coverage": found.coverage,
    }
