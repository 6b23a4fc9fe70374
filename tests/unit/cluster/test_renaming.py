"""A vector of before a renaming."""

from tidstorage.cluster.renaming import rename_vector


def test_tids_stand_under_the_present_ids():
    vector = {"old": 7, "root": 8}
    assert rename_vector(vector, {"old": "new", "older": "new"}) == {
        "new": 7,
        "root": 8,
    }
    assert rename_vector(vector, {}) == vector
