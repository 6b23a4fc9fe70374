"""The frame of every command."""

import pytest

from tidstorage.commands.entry import run_reporting_errors
from tidstorage.errors import NotPermitted


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "Data.fs"), "Data.fs: Permission"),
        (PermissionError(1, "Operation not permitted"), "error: Operation not"),
    ],
)
def test_what_is_another_users_is_named_where_it_has_a_name(error, said, capsys):
    def denied():
        raise error

    assert run_reporting_errors(denied) == NotPermitted.exit_status
    output = capsys.readouterr().err
    assert said in output
    assert "None" not in output
