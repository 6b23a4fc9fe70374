"""``bin/cluster status``: what runs, the newest backup, the daemon's point."""

import argparse
import datetime
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.commands import console, progress_display
from tidstorage.commands.front import add_json
from tidstorage.errors import DataFileLost, NotReady
from tidstorage.system import clock
from tidstorage.system.clock import local, span
from tidstorage.verbs.status.status import PartStatus, Status, status

#: What a transaction says of its writer.
_WRITER = ("user", "description")

HELP = "Show what runs, the newest backup set and the daemon's point."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Print the status; exit status 0 if every part runs, on the files of before.

    Else DataFileLost's where a data file is another one, or NotReady's.
    """
    state = status(cluster)
    if options.json:
        console.print_json(_as_json(state))
    else:
        _describe(cluster, state)
    if state.files_changed:
        return DataFileLost.exit_status
    complete = all(part.state == "running" for part in state.parts)
    return 0 if complete else NotReady.exit_status


def _describe(cluster: Cluster, state: Status) -> None:
    console.print_table(
        ("part", "state", "pid", "address", "since"),
        [
            (
                process.part.label,
                _describe_state(process),
                ", ".join(map(str, process.pids)),
                process.part.address_text,
                local(process.since) if process.since else "",
            )
            for process in state.parts
        ],
    )
    console.print_line()
    for operation in state.operations:
        console.print_line(progress_display.describe_operation(operation))
    if state.no_sets is not None:
        console.print_line(state.no_sets, "red")
    elif state.newest_set is None:
        console.print_line(f"There is no backup set in {cluster.backup.directory}.")
    else:
        newest = state.newest_set
        age = span(clock.now() - newest.point.time)
        console.print_line(
            f"newest backup set: {newest.id}, point of {local(newest.point.time)}"
            f" ({age} ago)"
        )
    _describe_runs(state)
    if state.dump is not None:
        console.print_line("the daemon's point:")
        for storage, last in sorted(state.dump.items()):
            console.print_line(f"  {storage}  {tid.to_text(last)}")
    if state.coverage is not None:
        _describe_coverage(state.coverage)


def _describe_runs(state: Status) -> None:
    """Print the last run of each verb that ever ran, and what is wrong with them."""
    for verb, results in state.runs.items():
        if results is not None:
            last = results.last
            took = "" if last.ended is None else f", {span(last.ended - last.begun)}"
            console.print_line(f"last {verb}: {last.state}, {local(last.begun)}{took}")
            for warning in last.warnings:
                console.print_line(f"  it warned: {warning}", "yellow")
    for alarm in state.alarms:
        console.print_line(alarm, "red")


def _describe_coverage(coverage: dict[str, Any]) -> None:
    for lost in coverage.get("lost_timeline", ()):
        console.print_line(
            f"{lost['writer']} still writes from before a restore, of a lost timeline:"
            f" commit {lost['commit']} on {lost['storage']}. No point after it is"
            " published. Stop every Zope, then run bin/cluster rebase.",
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
    for storage, commits in sorted(coverage["unstamped"].items()):
        moment = local(datetime.datetime.fromisoformat(commits["time"]))
        writer = [f'{key} "{commits[key]}"' for key in _WRITER if commits.get(key)]
        console.print_line(
            f"written without stamps: {commits['count']} on {storage}, the last"
            f" {', '.join([moment, *writer])}",
            "yellow",
        )


def _describe_state(process: PartStatus) -> str:
    text = process.state
    if process.state == "silent":
        text += f" ({process.reason})"
    if process.pids and process.part.managed and not process.supervised:
        text += ", not supervised"
    return text


def _as_json(state: Status) -> dict[str, Any]:
    newest = state.newest_set
    return {
        "parts": [
            {
                "kind": process.part.kind,
                "name": process.part.name,
                "program": process.part.program,
                "managed": process.part.managed,
                "state": process.state,
                "reason": process.reason,
                "pids": list(process.pids),
                "address": process.part.address_text,
                "since": process.since.isoformat() if process.since else None,
                "supervised": process.supervised,
            }
            for process in state.parts
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
        "no_sets": state.no_sets,
        "runs": {
            verb: None
            if results is None
            else {
                "last": results.last.to_json(),
                "good": None if results.good is None else results.good.to_json(),
            }
            for verb, results in state.runs.items()
        },
        "alarms": list(state.alarms),
        "operations": [operation.to_json() for operation in state.operations],
        "dump": None if state.dump is None else tid.vector_to_text(state.dump),
        "coverage": state.coverage,
    }
