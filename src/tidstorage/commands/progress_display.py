"""How a verb's progress is shown: a bar on a terminal, JSON lines where asked for.

Both go to standard error, so that what the verb prints can be piped.
"""

import argparse
import contextlib
import datetime
import sys
from collections.abc import Iterator

from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from tidstorage.commands import console
from tidstorage.operation.progress import INTERVAL, Show, Snapshot, show_nothing
from tidstorage.system import clock
from tidstorage.system.clock import local, span

#: A process that has said nothing for so long is stopped, or its machine too busy.
_SILENCE = datetime.timedelta(seconds=10)


def add_option(parser: argparse.ArgumentParser) -> None:
    """``--progress``."""
    parser.add_argument(
        "--progress",
        choices=("auto", "json", "none"),
        default="auto",
        help="what to show on standard error: a bar if it is a terminal (auto, the"
        " default), lines of JSON, or nothing",
    )


@contextlib.contextmanager
def show_progress(options: argparse.Namespace) -> Iterator[Show]:
    """What to hand to the verb, for the length of a ``with`` block."""
    if options.progress == "json":
        yield _print_line
    elif options.progress == "auto" and sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield show_nothing


def _print_line(snapshot: Snapshot) -> None:
    console.write(snapshot.model_dump_json() + "\n", sys.stderr)


@contextlib.contextmanager
def _bar() -> Iterator[Show]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[numbers]}"),
    )
    # Drawn as often as there is something new to tell, and no more.
    with Progress(
        *columns,
        console=console.standard_error(),
        refresh_per_second=1 / INTERVAL,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=None, numbers="")

        def show(snapshot: Snapshot) -> None:
            progress.update(
                task,
                description=escape(describe_work(snapshot)),
                total=snapshot.total,
                completed=snapshot.done,
                numbers=escape(format_numbers(snapshot)),
            )

        yield show


def describe_work(snapshot: Snapshot) -> str:
    """What goes on: ``backup: copy catalog, root``."""
    doing = f"{snapshot.phase} {', '.join(snapshot.items)}".strip()
    return f"{snapshot.verb}: {doing}" if doing else snapshot.verb


def describe_operation(snapshot: Snapshot) -> str:
    """For somebody who looks at it from another process."""
    said = [describe_work(snapshot), format_numbers(snapshot)]
    said.append(f"process {snapshot.pid} since {local(snapshot.since)}")
    silent = clock.now() - snapshot.at
    if silent > _SILENCE:
        said.append(f"it has said nothing for {span(silent)}")
    return "; ".join(filter(None, said))


def format_numbers(snapshot: Snapshot) -> str:
    """``1.2 GB of 5.0 GB, 24%, 310 MB/s, 0 min 12 s left``, as far as known."""
    if not snapshot.done and snapshot.total is None:
        return ""
    said = [format_amount(snapshot.done, snapshot.unit)]
    if snapshot.total is not None:
        said[0] += f" of {format_amount(snapshot.total, snapshot.unit)}"
        share = snapshot.done * 100 // snapshot.total if snapshot.total else 100
        said.append(f"{share}%")
    if snapshot.rate is not None:
        said.append(f"{format_amount(snapshot.rate, snapshot.unit)}/s")
    if snapshot.remaining is not None:
        left = datetime.timedelta(seconds=round(snapshot.remaining))
        said.append(f"{span(left)} left")
    return ", ".join(said)


def format_amount(count: float, unit: str) -> str:
    """``310.0 MB`` (decimal, as disks are sold), or ``1,234 objects``."""
    return decimal(int(count)) if unit == "bytes" else f"{count:,.0f} {unit}"
