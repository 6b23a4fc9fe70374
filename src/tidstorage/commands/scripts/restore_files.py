"""``tidstorage-restore``: cut crashed Data.fs files in place, so that they fit.

With ``-c`` the files are those that a configuration of the original names.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tidstorage.coherence import tid
from tidstorage.commands import console
from tidstorage.commands.entry import run_reporting_errors
from tidstorage.commands.front import CLUSTER_FILE, add_wait, open_cluster
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

HELP = "Cut the storages' files in place to a state in which they fit together."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser("tidstorage-restore", description=HELP)
    add_files(parser, "*")
    add_options(parser)
    parser.add_argument(
        "--cluster-file",
        metavar="FILE",
        type=Path,
        help="the description that names the files, where none are given"
        " (default: ./cluster.toml)",
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be cut; change nothing"
    )
    add_wait(parser)
    parser.add_argument(
        "--blobs",
        metavar="ID=DIR",
        action="append",
        default=[],
        help="where the blobs of a storage are: those of transactions that are cut"
        " off are moved to beside what else is; may be repeated",
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
    options = parser.parse_args(arguments)
    paths = given_files(parser, options)
    if options.config is not None and (paths or options.cluster_file):
        parser.error("--config names the files itself")
    options.blobs = dict(pairs(parser, options.blobs, "ID=DIR"))
    for storage in options.blobs:
        if storage not in paths:
            parser.error(f"--blobs names storage {storage}, which is not given")
    return run_reporting_errors(lambda: _run(options, paths))


def _run(options: argparse.Namespace, paths: Mapping[str, Path]) -> int:
    with lock.waiting(options.wait):
        if options.config is not None:
            outcome = _cut_original(options)
        elif options.dry_run:
            outcome = crashed_files.preview(_request(options, paths))
        else:
            outcome = crashed_files.restore(_request(options, paths))
    if outcome.floor is not None:
        say_floor(outcome.floor)
    if options.json:
        console.print_json(_as_json(outcome))
    else:
        _describe(outcome, options.dry_run)
    return 0


def _cut_original(options: argparse.Namespace) -> Outcome:
    found = original_configuration.load(options.config)
    request = crashed.request(found, options.policy)
    outcome, at_floor = crashed.cut(request, options.dry_run)
    if at_floor:
        console.print_warning(
            "what follows the last point of the TID log has transactions without a"
            " stamp, and nobody can tell what fits together: all of it goes"
        )
    return outcome


def _request(options: argparse.Namespace, paths: Mapping[str, Path]) -> Request:
    """Files on the command line go before the description's."""
    aliases: dict[str, str] = options.alias
    retired = frozenset(options.retired)
    cluster = None
    blob_directories: dict[str, Path] = {
        storage: Path(folder) for storage, folder in options.blobs.items()
    }
    if not paths:
        cluster = open_cluster(options.cluster_file or CLUSTER_FILE)
        paths = {each.id: each.data_file for each in cluster.storages}
        blob_directories = {
            each.id: each.blob_directory
            for each in cluster.storages
            if each.blob_directory is not None
        }
        aliases = {**cluster.aliases, **aliases}
        retired |= cluster.retired
    return Request(
        paths,
        aliases,
        retired,
        options.partial,
        options.floor,
        options.policy,
        cluster,
        blob_directories,
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
        console.print_line("The files fit together as they are; nothing is cut.")
        return
    if outcome.files_cut is None:
        console.print_line("A run that was interrupted is brought to its end.")
    for step in plan.steps:
        if step.position < step.size:
            verb = "would be cut" if dry_run else "was cut"
            console.print_line(
                f"{step.path} {verb} from {step.size:,} to {step.position:,} bytes;"
                f" the rest is in {step.dropped}"
            )
        if number := outcome.blobs.get(step.storage):
            verb = "would be moved" if dry_run else "were moved"
            console.print_line(
                f"{number} blobs of what is cut off {verb} to {step.dropped_blobs}"
            )
    if not dry_run:
        console.print_line(f"The files are now at point {plan.point.id}.")


if __name__ == "__main__":
    sys.exit(main())
