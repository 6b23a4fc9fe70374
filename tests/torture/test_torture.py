"""A short torture, and the proof that it fails where cuts are none.

What a round contains is up to the machine: one that proves nothing is followed by
another.
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


def test_a_round_holds(tmp_path):
    wanted = {
        "client: committed",
        "points",
        "copies torn without a cut",
        "restored sets",
    }
    for report in rounds(tmp_path, others=2):
        assert not report.violations
        wanted -= {each for each, count in report.counts.items() if count}
        if not wanted:
            return
    pytest.fail(f"{MOST_ROUNDS} rounds without {', '.join(sorted(wanted))}")


def test_a_cut_at_the_end_of_the_file_is_seen_to_be_none(tmp_path):
    uncut = rounds(tmp_path, cut=lambda files, policy: "", others=0, restored=False)
    assert any("copy, strict" in each for report in uncut for each in report.violations)
