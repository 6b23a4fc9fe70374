"""A short torture, and the proof that one fails where cuts are none.

What a round contains is up to the machine.  So rounds follow each other until
each proof that is asked for was seen; what none may contain is a violation.
"""

import logging
import time
from collections import Counter

import pytest

from torture.rounds import Round

# A violation is one, also where the next round has none.
pytestmark = [pytest.mark.integration, pytest.mark.flaky(reruns=0)]

SEED = 20261124
MOST_ROUNDS = 8
#: Seconds after which no other round begins.
ENOUGH = 150
#: Without these nothing is proven.
WANTED = {
    "client: committed",
    "points",
    "half commits",
    "kills of servers",
    "copies torn without a cut",
    "restored sets",
    "crashed files cut",
    "half commits named by bin/cluster damage",
}


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def rounds(folder, **options):
    began = time.monotonic()
    for number in range(MOST_ROUNDS):
        if number and time.monotonic() - began > ENOUGH:
            return
        path = folder / str(number)
        path.mkdir()
        yield Round(number, SEED, **options).run(path)


def test_rounds_hold(tmp_path):
    seen: Counter[str] = Counter()
    for report in rounds(tmp_path, others=2):
        assert not report.violations, report.to_json()
        seen += report.counts
        if not WANTED - seen.keys():
            return
    pytest.fail(f"without {WANTED - seen.keys()}: {dict(seen)}")


def test_a_cut_at_the_end_of_the_file_is_seen_to_be_none(tmp_path):
    uncut = rounds(tmp_path, cut=lambda files, policy: "", others=0, restored=False)
    assert any("copy, strict" in each for report in uncut for each in report.violations)
