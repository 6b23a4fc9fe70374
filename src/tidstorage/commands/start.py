"""``bin/cluster start``: ZEO servers, the daemon, Zopes, each when it can work."""

import argparse

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.commands.front import add_dry_run, add_json, parse_seconds
from tidstorage.processes import control
from tidstorage.processes.process import list_processes
from tidstorage.processes.starting import START_SECONDS, Plan

HELP = "Start what does not run, restart what has changed, and wait until it serves."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_names(parser)
    add_timeout(parser)
    add_output(parser)
    parser.add_argument(
        "--accept-new",
        action="append",
        default=[],
        metavar="ID",
        help="serve the Data.fs of this storage though it is not the one that was"
        " there before, from where a new timeline begins; may be given again",
    )


def add_names(parser: argparse.ArgumentParser) -> None:
    """Which parts; none named means all of them."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a ZEO server, a Zope, or 'tidstorage' for the daemon (default: all)",
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """How long to wait for readiness."""
    parser.add_argument(
        "--timeout",
        type=parse_seconds,
        default=START_SECONDS,
        metavar="SECONDS",
        help="how long to wait until all ZEO servers, the daemon, or all Zopes are"
        " ready (default: %(default)g)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """How to report."""
    add_json(parser)
    add_dry_run(parser, "say what would be done")


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Start, and say what was started."""
    names = options.names or None
    if options.dry_run:
        _print_plan(cluster, control.make_plan(cluster, names), options.json)
        return 0
    if options.accept_new:
        # Imported late: nearly no start has any use for what knows of sets.
        from tidstorage.processes.accept_files import accept_files

        number = accept_files(cluster, options.accept_new)
        console.print_progress(
            f"accepted: the files of {', '.join(options.accept_new)}; timeline {number}"
            " begins"
        )
    started = control.start(
        cluster, names, tell=console.print_progress, seconds=options.timeout
    )
    print_outcome(options.json, "started", started, "Nothing to do: everything runs.")
    if started and not options.json:
        for part in list_processes(cluster):
            if part.kind == "zope":
                console.print_line(f"{part.label}: http://{part.address_text}/")
    return 0


def print_outcome(as_json: bool, what: str, labels: list[str], nothing: str) -> None:
    """Print what became of the parts: ``{what: labels}``, or a line for people.

    nothing: the line where there are no parts.
    """
    if as_json:
        console.print_json({what: labels})
    elif labels:
        console.print_line(f"{what}: {', '.join(labels)}")
    else:
        console.print_line(nothing)


def _print_plan(cluster: Cluster, plan: Plan, as_json: bool) -> None:
    labels = {part.program: part.label for part in list_processes(cluster)}
    data = {
        "start": [part.label for part in plan.begin],
        "restart": [part.label for part in plan.restart],
        "stop": list(plan.remove),
        "end_unsupervised": [
            f"{labels.get(program, program)} (pid {pid})"
            for pid, program in plan.orphans.items()
        ],
    }
    if as_json:
        console.print_json(data)
        return
    if plan.is_idle:
        console.print_line("Nothing to do: everything runs.")
    for verb, parts in data.items():
        if parts:
            console.print_line(f"would {verb.replace('_', ' ')}: {', '.join(parts)}")
