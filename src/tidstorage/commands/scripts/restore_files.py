"""``tidstorage-restore``: cut crashed Data.fs files in place, so that they fit.

With ``-c`` the files are those that a configuration of the original names.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidstorage.coherence import tid
from tidstorage.commands import console
from tidstorage.commands.entry import run_reporting_errors
from tidstorage.commands.front import CLUSTER_FILE, add_dry_run, add_wait, open_cluster
from tidstorage.commands.scripts.cut import (
    add_files,
    add_options,
    as_json,
    describe,
    given_files,
    pairs,
    say_floor,
)
from tidstorage.legacy import configuration as original_configuration
from tidstorage.legacy import crashed
from tidstorage.operation import lock
from tidstorage.verbs.restore import crashed_files
from tidstorage.verbs.restore.crashed_files import Outcome, Request
from tidstorage.verbs.restore.cut_plan import Plan

HELP = "Cut crashed Data.fs files where they lie, to a state that fits together."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    paths = given_files(parser, options)
    if options.config is not None and (paths or options.cluster_file):
        parser.error("--config names the files itself: give it alone")
    options.blobs = dict(pairs(parser, options.blobs, "ID=DIR"))
    for storage in options.blobs:
        if storage not in paths:
            parser.error(f"--blobs names storage {storage}, which is not given")
    return run_reporting_errors(lambda: _run(options, paths))


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tidstorage-restore", description=HELP)
    add_files(parser, "*")
    add_options(parser)
    parser.add_argument(
        "--cluster-file",
        metavar="FILE",
        type=Path,
        help="the description of the cluster, which names the files where none are"
        " given (default: cluster.toml in this folder)",
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, help=argparse.SUPPRESS
    )
    add_dry_run(parser, "say what would be cut off")
    add_wait(parser)
    parser.add_argument(
        "--blobs",
        metavar="ID=DIR",
        action="append",
        default=[],
        help="the blob directory of a storage: blobs of transactions that are cut off"
        " are moved beside what is cut off the Data.fs; may be repeated",
    )
    policy = parser.add_mutually_exclusive_group()
    for name, text in (
        ("strict", "cut off half commits and all that follows them"),
        ("tolerant", "keep half commits"),
    ):
        policy.add_argument(
            f"--{name}",
            action="store_const",
            dest="policy",
            const=name,
            default="clean",
            help=text,
        )
    return parser


def _run(options: argparse.Namespace, paths: Mapping[str, Path]) -> int:
    with lock.waiting(options.wait):
        request = _make_request(options, paths)
        outcome = cut(request, options.dry_run)
    if request.at_floor:
        console.print_warning(
            "some transactions after the last point of the TID log have no stamp, so"
            " that nobody can tell what fits together: all after that point is cut off"
        )
    if outcome.floor is not None:
        say_floor(outcome.floor)
    if options.json:
        console.print_json(_as_json(outcome))
    else:
        _describe(outcome, options.dry_run)
    return 0


def cut(request: Request, dry_run: bool) -> Outcome:
    """Cut the files as the request says, or only find out what that would cut."""
    if dry_run:
        return crashed_files.preview(request)
    return crashed_files.restore(request)


def _make_request(options: argparse.Namespace, paths: Mapping[str, Path]) -> Request:
    """Files on the command line go before those that a description names."""
    if options.config is not None:
        original = original_configuration.load(options.config)
        return crashed.read_request(original, options.policy)
    request = Request(
        paths,
        options.alias,
        frozenset(options.retired),
        options.partial,
        options.floor,
        options.policy,
        blob_directories={
            storage: Path(folder) for storage, folder in options.blobs.items()
        },
    )
    if paths:
        return request
    cluster = open_cluster(options.cluster_file or CLUSTER_FILE)
    return replace(
        request,
        paths={storage.id: storage.data_file for storage in cluster.storages},
        aliases={**cluster.aliases, **request.aliases},
        retired=request.retired | cluster.retired,
        cluster=cluster,
        blob_directories={
            storage.id: storage.blob_directory
            for storage in cluster.storages
            if storage.blob_directory is not None
        },
    )


def _as_json(outcome: Outcome) -> dict[str, Any]:
    plan = outcome.plan
    return {
        "found": outcome.files_cut and as_json(outcome.files_cut),
        "resumed": outcome.files_cut is None,
        "cut": {} if plan is None else _cut_as_json(plan, outcome.blobs),
        "point": plan and plan.point.to_json(),
    }


def _cut_as_json(plan: Plan, blobs: Mapping[str, int]) -> dict[str, Any]:
    return {
        step.storage: {
            "file": str(step.path),
            "tid": tid.to_text(step.last),
            "position": step.position,
            "size": step.size,
            "dropped": str(step.dropped) if step.position < step.size else None,
            "blobs": blobs.get(step.storage, 0),
            "dropped_blobs": (
                str(step.dropped_blobs) if step.storage in blobs else None
            ),
        }
        for step in plan.steps
    }


def _describe(outcome: Outcome, dry_run: bool) -> None:
    if outcome.files_cut is not None:
        describe(outcome.files_cut)
    describe_plan(outcome, dry_run)


def describe_plan(outcome: Outcome, dry_run: bool) -> None:
    """What was cut off each file, or would be, and where it is."""
    plan = outcome.plan
    if plan is None:
        console.print_line("The files fit together as they are: nothing is cut off.")
        return
    if outcome.files_cut is None:
        verb = "would be" if dry_run else "was"
        console.print_line(
            f"A former run that was interrupted {verb} brought to its end."
        )
    for step in plan.steps:
        if step.position < step.size:
            verb = "would be cut" if dry_run else "was cut"
            goes = "goes to" if dry_run else "is in"
            console.print_line(
                f"{step.path} {verb} from {step.size:,} to {step.position:,} bytes;"
                f" what is cut off {goes} {step.dropped}"
            )
        if number := outcome.blobs.get(step.storage):
            verb = "would be moved" if dry_run else "were moved"
            console.print_line(
                f"{number} blobs of transactions that are cut off {verb} to"
                f" {step.dropped_blobs}"
            )
    if not dry_run:
        console.print_line(f"The files are now at point {plan.point.id}.")


if __name__ == "__main__":
    sys.exit(main())
