"""The table of errors: each has a status of its own, in order, and says what it is."""

import pytest

from tidstorage import errors
from tidstorage.cluster.load import load_cluster
from tidstorage.commands import cluster as front

ALL = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.TidstorageError)
]


def test_every_error_has_a_status_of_its_own_in_order():
    statuses = [error.exit_status for error in ALL]
    assert statuses == sorted(set(statuses))
    # Statuses from 64 on have meanings of their own for some callers.
    assert max(statuses) < 64


@pytest.mark.parametrize("error", ALL)
def test_every_error_says_what_it_is(error):
    assert error.__doc__ and error.__doc__.strip().endswith((".", "``hint`` tells"))


def test_options_that_do_not_go_together_end_as_argparse_does(tmp_path, monkeypatch):
    description = tmp_path / "cluster.toml"
    description.write_text('[[storage]]\nid = "root"\nmount-point = "/"\n')
    load_cluster(description)
    given = ["--cluster-file", str(description), "restore", "--storage", "root"]
    assert front.main(given) == 2
    with pytest.raises(SystemExit) as ended:
        front.main([*given[:2], "restore", "--no-such-option"])
    assert ended.value.code == 2
