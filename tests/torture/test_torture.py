"""The proof that a torture fails where cuts are none.

What a round contains is up to the machine: one that proves nothing is followed by
another.  Rounds that have to hold are run on demand (docs/torture.rst).
"""

import logging

import pytest

from torture.rounds import Round

pytestmark = pytest.mark.integration

SEED = 20261124
MOST_ROUNDS = 8


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def rounds(folder, **options):
    for number in range(MOST_ROUNDS):
        path = folder / str(number)
        path.mkdir()
        yield Round(number, SEED, **options).run(path)


def test_a_cut_at_the_end_of_the_file_is_seen_to_be_none(tmp_path):
    uncut = rounds(tmp_path, cut=lambda files, policy: "", others=0, restored=False)
    assert any("copy, strict" in each for report in uncut for each in report.violations)
