"""What every command does with errors: one message, and an exit status."""

import io
import sys
from collections.abc import Callable

from tidstorage.commands import console
from tidstorage.errors import EngineFailed, NotPermitted, TidstorageError

INTERRUPTED = 130


def run_reporting_errors(function: Callable[[], int]) -> int:
    """Call ``function`` and return its exit status, or that of its error.

    A TidstorageError is shown as ``error:`` and ``hint:`` on standard error, and so
    are the system's errors and Ctrl-C.  Anything else that is raised is a defect and
    keeps its traceback.

    Text that standard output cannot encode is escaped: ids may have any bytes, and in
    JSON the escaped text means the same.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return function()
    except TidstorageError as error:
        console.print_error(str(error), error.hint)
        return error.exit_status
    except PermissionError as error:
        denied = NotPermitted(_describe(error))
        console.print_error(str(denied), denied.hint)
        return denied.exit_status
    except OSError as error:
        failed = EngineFailed(_describe(error), "Is a disk full, gone or read-only?")
        console.print_error(str(failed), failed.hint)
        return failed.exit_status
    except KeyboardInterrupt:
        console.print_error("interrupted", "")
        return INTERRUPTED


def _describe(error: OSError) -> str:
    """``PATH: what happened``, without the number of the error."""
    if error.strerror is None:
        return str(error)
    # A signal to another user's process names no file, a rename names two.
    paths = [
        str(path) for path in (error.filename, error.filename2) if path is not None
    ]
    return f"{' -> '.join(paths)}: {error.strerror}" if paths else error.strerror
