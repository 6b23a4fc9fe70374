"""Processes that die at any step at which they change what is on disk."""

import os
import traceback
from collections.abc import Callable

CHANGES = (
    "open",
    "fsync",
    "rename",
    "replace",
    "unlink",
    "rmdir",
    "ftruncate",
    "write",
    "pwrite",
    "copy_file_range",
)
DIED = 99
RAISED = 70


def in_child(function: Callable[[], object]) -> int:
    """The exit status of a process that runs ``function``; RAISED if it does."""
    child = os.fork()
    if not child:
        status = RAISED
        try:
            function()
            status = 0
        except BaseException:
            # Whatever it is, the child must not return into the test.
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at_change(number: int) -> None:
    """Patch ``os`` so that this process dies before its nth change, as by SIGKILL."""
    left = [number]

    def dying(function: Callable[..., object]) -> Callable[..., object]:
        def changed(*arguments: object, **keywords: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os._exit(DIED)
            return function(*arguments, **keywords)

        return changed

    for name in CHANGES:
        setattr(os, name, dying(getattr(os, name)))
