"""Every command ends with one message and the exit status of the table."""

import errno

import pytest

from tidstorage import errors
from tidstorage.commands.entry import run_reporting_errors


def raising(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (errors.Locked("taken", "wait"), 7, "error: taken\nhint: wait\n"),
        (PermissionError(errno.EACCES, "denied", "/x"), 22, "error: /x: denied\n"),
        (OSError(errno.ENOSPC, "No space left", "/x"), 15, "error: /x: No space left"),
        (OSError(errno.EXDEV, "other disk", "/x", None, "/y"), 15, "/x -> /y: other"),
        (OSError("no number"), 15, "error: no number\nhint: Is a disk full"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_is_no_defect_is_a_message_and_a_status(capsys, error, status, said):
    assert run_reporting_errors(raising(error)) == status
    assert said in capsys.readouterr().err


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_reporting_errors(raising(ZeroDivisionError()))
