"""A short torture, and the proof that it fails where cuts are none."""

import logging

import pytest

from torture.rounds import Round

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_a_round_holds(tmp_path):
    report = Round(0, 20261124, others=2).run(tmp_path)
    assert not report.violations
    for proof in (
        "client: committed",
        "points",
        "copies torn without a cut",
        "restored sets",
    ):
        assert report.counts[proof], report.to_json()


def test_a_cut_at_the_end_of_the_file_is_seen_to_be_none(tmp_path):
    report = Round(
        1, 20261124, cut=lambda files, policy: "", others=0, restored=False
    ).run(tmp_path)
    assert any("copy, strict" in each for each in report.violations)
