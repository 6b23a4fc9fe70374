"""``bin/cluster``: for operators; each verb is a module of this package."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from tidstorage.commands.entry import run_reporting_errors
from tidstorage.commands.front import add_cluster_file, add_wait, open_cluster
from tidstorage.operation import lock

#: In the order in which a newcomer needs them.
VERBS = (
    "init",
    "start",
    "stop",
    "restart",
    "status",
    "backup",
    "backups",
    "verify",
    "prune",
    "restore",
    "points",
    "browse",
    "damage",
    "rebase",
    "pack",
    "cron",
    "demo",
)
#: Those that hold the cluster's lock: only one of them runs at a time.
LOCKING = ("init", "backup", "restore", "prune", "pack", "rebase")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status."""
    return run_reporting_errors(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    options = _make_parser(_find_verbs(arguments)).parse_args(arguments)
    cluster = open_cluster(options.cluster_file)
    run = options.run
    with lock.waiting(getattr(options, "wait", 0.0)):
        status: int = run(options, cluster)
    return status


def _find_verbs(arguments: Sequence[str] | None) -> Sequence[str]:
    """The verb that is asked for, alone; all verbs where none is.

    Importing the modules of all verbs takes most of a second, which a start in
    the night should not wait for.
    """
    front = argparse.ArgumentParser(add_help=False)
    add_cluster_file(front)
    front.add_argument("verb", nargs="?")
    verb = front.parse_known_args(arguments)[0].verb
    return [verb] if verb in VERBS else VERBS


def _make_parser(chosen: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cluster",
        description="Run, back up and restore the cluster of one cluster.toml.",
    )
    add_cluster_file(parser)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, module in _import_verbs(chosen):
        help_text: str = module.HELP
        verb = verbs.add_parser(name, help=help_text, description=help_text)
        module.add_arguments(verb)
        if name in LOCKING:
            add_wait(verb)
        verb.set_defaults(run=module.run)
    return parser


def _import_verbs(chosen: Sequence[str]) -> list[tuple[str, ModuleType]]:
    return [
        (name, importlib.import_module(f"tidstorage.commands.{name}"))
        for name in chosen
    ]


if __name__ == "__main__":
    sys.exit(main())
