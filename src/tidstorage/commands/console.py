"""What commands print: progress and tables for people, JSON for programs.

Results go to standard output; progress and errors to standard error, so that
cron mails nothing but trouble and ``--json`` output can be piped.  Where the reader
(head, less) goes away, the output is dropped and the command goes on: whether a
backup is made must not depend on who watches.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: Text that is piped or logged is not folded at 80 columns.
_UNFOLDED = 10_000
_is_progress_output = False


class _Console(Console):
    def on_broken_pipe(self) -> None:
        _drop(self.file)


def _drop(stream: IO[str]) -> None:
    """Let all further output, and what is buffered, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _make_console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNFOLDED
    return _Console(
        file=stream, width=width, highlight=False, soft_wrap=True, emoji=False
    )


def print_line(text: str = "", style: str = "") -> None:
    """Print a line on standard output, as it is (no markup)."""
    _make_console(stderr=False).print(escape(text), style=style or None)


def standard_error() -> Console:
    """Standard error, for what is drawn anew while it goes on."""
    return _make_console(stderr=True)


def write(text: str, stream: IO[str] | None = None) -> None:
    """Write text for programs, to the letter; by default on standard output."""
    target = stream or sys.stdout
    try:
        target.write(text)
        target.flush()
    except BrokenPipeError:
        _drop(target)


def print_error(what: str, hint: str = "") -> None:
    """Print ``error: WHAT`` and, if there is a hint, ``hint: …`` on standard error."""
    console = _make_console(stderr=True)
    console.print(f"[bold red]error:[/] {escape(what)}")
    if hint:
        console.print(f"[bold]hint:[/] {escape(hint)}")


def print_warning(text: str) -> None:
    """Print ``warning: …`` on standard error."""
    _make_console(stderr=True).print(f"[bold yellow]warning:[/] {escape(text)}")


@contextlib.contextmanager
def progress_in_output() -> Iterator[None]:
    """Let progress go to standard output for a while: for runs of cron.

    That is their log; cron mails what is on standard error.
    """
    global _is_progress_output
    _is_progress_output = True
    try:
        yield
    finally:
        _is_progress_output = False


def print_progress(text: str) -> None:
    """Print a step that was taken, as it is; on standard error, or for cron's log."""
    _make_console(stderr=not _is_progress_output).print(escape(text))


def print_nothing(_text: str) -> None:
    """In place of `print_progress`, where nobody is to be told of steps."""


def print_json(data: Any) -> None:
    """Print ``data`` as indented JSON on standard output, and nothing else."""
    write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = ""
) -> None:
    """Print a table without a frame on standard output; cells as they are."""
    table = Table(
        title=escape(title) or None, title_justify="left", box=None, pad_edge=False
    )
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = _make_console(stderr=False)
    console.print(table)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Show on standard error that ``text`` goes on, and then that it is done.

    On a terminal with a spinner; elsewhere one line when it ends.
    """
    console = _make_console(stderr=not _is_progress_output)
    with console.status(escape(text)):
        yield
    console.print(f"[green]done[/]  {escape(text)}")
