"""Our tools, called as an operator calls them."""

import contextlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path

from tidstorage.commands import cluster as cluster_command
from tidstorage.commands.scripts import restore_files

_INTERRUPTED = 130
#: Cuts {storage: copy} in place by a policy, "strict" or "tolerant"; its words.
Cutter = Callable[[Mapping[str, Path], str], str]


def cut_by_our_tool(files: Mapping[str, Path], policy: str) -> str:
    """tidstorage-restore, as an operator calls it."""
    return run_tool(restore_files.main, [*named(files), f"--{policy}", "--json"])


def named(files: Mapping[str, Path]) -> list[str]:
    return [f"{storage}={path}" for storage, path in files.items()]


class ToolFailed(Exception):
    """One of our tools ended with a status, and said this."""

    def __init__(self, arguments: list[str], status: object, said: str) -> None:
        super().__init__(f"{' '.join(arguments)}: status {status}: {said}")
        self.status = status


def run_tool(main: Callable[[list[str]], int], arguments: list[str]) -> str:
    """A command in this process; what it printed."""
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        try:
            status: object = main(arguments)
        except SystemExit as ended:
            status = ended.code
        except Exception as error:
            # A traceback is never an answer of a tool.
            raise ToolFailed(arguments, "traceback", repr(error)) from error
    if status == _INTERRUPTED:
        # Not the tool was told to end: we were.
        raise KeyboardInterrupt
    if status:
        raise ToolFailed(arguments, status, said.getvalue())
    return out.getvalue()


def run_cluster(description: Path, *arguments: str) -> str:
    """``bin/cluster`` with these arguments."""
    return run_tool(
        cluster_command.main, ["--cluster-file", str(description), *arguments]
    )
