"""``tidstorage-verify``, ``tidstorage-prune``, ``tidstorage-pack``: for cron.

They do what the verbs of ``bin/cluster`` do.  What they say goes to standard
output, which the crontab appends to a log; errors and warnings go to standard
error, which cron mails.

A run waits for the end of another verb's, so that schedules may overlap.  Where the
former run of the same verb still goes on, or waits, it says so and ends: runs do not
pile up.
"""

import argparse
import contextlib
import importlib
from collections.abc import Iterator, Sequence

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.commands.entry import run_reporting_errors
from tidstorage.commands.front import add_cluster_file, open_cluster
from tidstorage.operation import lock
from tidstorage.system import clock

#: Seconds to wait for a run of another verb.
PATIENCE = 12 * 3600.0


def verify(arguments: Sequence[str] | None = None) -> int:
    """Verify sets; returns the exit status."""
    return run_reporting_errors(lambda: _run("verify", arguments))


def prune(arguments: Sequence[str] | None = None) -> int:
    """Prune; returns the exit status."""
    return run_reporting_errors(lambda: _run("prune", arguments))


def pack(arguments: Sequence[str] | None = None) -> int:
    """Pack; returns the exit status."""
    return run_reporting_errors(lambda: _run("pack", arguments))


def _run(verb: str, arguments: Sequence[str] | None) -> int:
    module = importlib.import_module(f"tidstorage.commands.{verb}")
    parser = argparse.ArgumentParser(prog=f"tidstorage-{verb}", description=module.HELP)
    add_cluster_file(parser)
    module.add_arguments(parser)
    options = parser.parse_args(arguments)
    cluster = open_cluster(options.cluster_file)
    with hold_turn(cluster, verb):
        status: int = module.run(options, cluster)
    return status


@contextlib.contextmanager
def hold_turn(cluster: Cluster, verb: str) -> Iterator[None]:
    """Be cron's only run of the verb for the length of the ``with`` block.

    Its begin and end, or failure, are printed with the time.

    Raises: Locked: while the former run goes on.
    """
    cluster.run_directory.mkdir(parents=True, exist_ok=True)
    with (
        lock.waiting(0),
        lock.hold_file(
            cluster.run_directory / f"cron-{verb}.lock", f"the former {verb}"
        ),
        lock.waiting(PATIENCE),
        console.progress_in_output(),
    ):
        console.print_line(f"{clock.local(clock.now())} {verb} begins")
        try:
            yield
        except BaseException as error:
            # For the log; standard error is told by whoever catches it.
            console.print_line(f"{clock.local(clock.now())} {verb} failed: {error}")
            raise
        console.print_line(f"{clock.local(clock.now())} {verb} ends")
