"""Data files: one that is open, and one that is at rest."""

import pytest
from data_files import Writer


@pytest.fixture
def writer(tmp_path):
    made = Writer(tmp_path / "Data.fs")
    yield made
    made.close()


@pytest.fixture
def filled(tmp_path):
    """A closed file of some thirty transactions, with its index."""
    made = Writer(tmp_path / "Data.fs", seed=3)
    for _ in range(25):
        made.commit("a note")
    made.undo()
    for _ in range(5):
        made.commit()
    made.close()
    return tmp_path / "Data.fs"
