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
    report = Round(0, 20261124).run(tmp_path)
    assert not report.violations
    assert report.counts["committed"]
    assert report.counts["copies torn without a cut"]


def test_a_cut_at_the_end_of_the_file_is_seen_to_be_none(tmp_path):
    report = Round(1, 20261124, cut=lambda files, policy: "").run(tmp_path)
    assert any("copy, strict" in each for each in report.violations)
