"""``bin/cluster browse``: look at the past with a read-only Zope; export from it."""

import argparse
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console, restore, restore_report
from tidstorage.errors import NotReady, TargetExists, WrongUsage
from tidstorage.verbs.browse import scratch, zope
from tidstorage.verbs.browse.zope import Served
from tidstorage.verbs.restore.outcome import RestoredElsewhere
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere

HELP = "Look at the site as it was, with a read-only Zope, and export from it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    restore.add_moment(parser)
    parser.add_argument(
        "--strict",
        action="store_const",
        dest="policy",
        const="strict",
        default="tolerant",
        help="leave out half commits and all that follows them",
    )
    parser.add_argument(
        "--export", metavar="PATH", help="write this object to --output, and end"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="a new file, as site.zexp"
    )
    parser.add_argument(
        "--zope", metavar="NAME", help="whose products to use (default: the first)"
    )
    parser.add_argument(
        "--port", type=int, help="port on 127.0.0.1 (default: a free one)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Restore to a scratch folder; serve that until Ctrl-C, or export from it."""
    target = _export_target(options)
    chosen = zope.choose(cluster, options.zope)
    request = Request(**restore.moment(options), policy=options.policy)
    with _ended_by_sigterm(), scratch.folder(cluster) as made:
        with console.step("restoring to a scratch folder"):
            restored = restore_elsewhere(cluster, request, made.folder / "restored")
        if target is not None:
            size = zope.export(cluster, chosen, made, options.export, target)
            _tell(options, restored, {"exported": str(target), "bytes": size})
            return 0
        with zope.serving(cluster, chosen, made, options.port) as served:
            try:
                _tell(options, restored, _as_json(served))
                status = served.process.wait()
            except KeyboardInterrupt:
                # As soon as it is told how to look, Ctrl-C is how to end.
                return 0
            raise NotReady(f"the Zope that showed the past ended with status {status}")


def _export_target(options: argparse.Namespace) -> Path | None:
    if (options.export is None) != (options.output is None):
        raise WrongUsage("--export PATH and --output FILE go together")
    target: Path | None = options.output
    if target is not None and target.exists():
        raise TargetExists(f"{target} exists already", "Name a new file.")
    return target and target.absolute()


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """A SIGTERM cleans up like Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(
    options: argparse.Namespace, restored: RestoredElsewhere, more: dict[str, Any]
) -> None:
    restore.warn_of_lacks(restored)
    if options.json:
        console.print_json({**restore_report.as_json(restored), **more})
        return
    restore_report.describe_state(restored)
    if "url" in more:
        console.print_line(f"open {more['url']}")
        console.print_line(f"as user {more['user']} with password {more['password']}")
        console.print_line("Nothing can be changed there. Ctrl-C ends it.")
    else:
        console.print_line(f"{more['bytes']:,} bytes in {more['exported']}")


def _as_json(served: Served) -> dict[str, Any]:
    return {"url": served.url, "user": served.user, "password": served.password}
