"""The frame of every command: errors become one message and an exit status."""

import io
import sys
from collections.abc import Callable

from tidstorage.commands import console
from tidstorage.errors import EngineFailed, NotPermitted, TidstorageError

INTERRUPTED = 130


def run_reporting_errors(function: Callable[[], int]) -> int:
    """Call ``function`` and return its exit status, or that of its error.

    A TidstorageError is shown as ``error:`` and ``hint:`` on standard error.
    Anything else that is raised is a defect and keeps its traceback.  What cannot be
    encoded, as ids of any bytes, is escaped: in JSON it is the same then.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return function()
    except TidstorageError as error:
        console.print_error(str(error), error.hint)
        return error.exit_status
    except PermissionError as error:
        # A signal to another user's process names no file.
        place = f"{error.filename}: " if error.filename is not None else ""
        denied = NotPermitted(f"{place}{error.strerror}")
        console.print_error(str(denied), denied.hint)
        return denied.exit_status
    except OSError as error:
        failed = EngineFailed(str(error), "Is a disk full, gone or read-only?")
        console.print_error(str(failed), failed.hint)
        return failed.exit_status
    except KeyboardInterrupt:
        console.print_error("interrupted", "")
        return INTERRUPTED
