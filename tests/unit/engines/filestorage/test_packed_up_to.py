"""How far a pack may have gone in a file, and what that leaves to be said."""

from types import SimpleNamespace

import pytest
from torn_files import TornFiles

from tidstorage.coherence.tid import LAST
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage.records import find_packed
from tidstorage.errors import FloorNeeded


@pytest.mark.parametrize(
    ("after", "before", "statuses", "packed"),
    [
        (5, " ", "  ", 0),
        (5, "u", "  ", 0),
        (5, "p", "  ", 10),
        (5, "p", "pp ", 12),
        (5, "p", "pp", LAST),
        (5, "p", "", LAST),
        # What was known of is gone as a whole.
        (5, None, "  ", 10),
        (5, None, "", LAST),
        # A file from its start.
        (0, None, "  ", 0),
        (0, None, "", 0),
        (0, None, "p ", 11),
        (0, None, "pp", LAST),
    ],
)
def test_up_to_before_the_first_without_a_mark(after, before, statuses, packed):
    following = [
        SimpleNamespace(tid=11 + number, status=status)
        for number, status in enumerate(statuses)
    ]
    assert find_packed(after, before, following) == packed


@pytest.fixture
def files(tmp_path):
    made = TornFiles(tmp_path / "files", "a b")
    made.commit("a b")
    yield made
    made.close()


def pack(files, storage):
    files.connections[storage].db().pack()


def test_a_pack_above_the_floor_makes_no_half_commits(files):
    """Each commit writes the same object, so the pack leaves only the last one."""
    floor = files.last_tids()
    for _ in range(3):
        files.commit("a b")
    pack(files, "b")
    files.commit("a b")
    files.close()
    cut = {"aliases": {}, "over_packs": True}
    found = filestorage.cut_files(files.paths, floor, **cut)
    assert not found.half_commits and not found.undecided
    assert [each.unseen for each in found.unknown] == [("b",), ("b",)]
    ends = {
        storage: filestorage.last_tid(path) for storage, path in files.paths.items()
    }
    assert {storage: kept.tid for storage, kept in found.strict.items()} == ends
    # That is to look only: what is gone cannot be cut at.
    with pytest.raises(FloorNeeded):
        filestorage.cut_files(files.paths, floor, aliases={})


def test_one_that_is_torn_all_the_same(files):
    floor = files.last_tids()
    torn = files.commit("a", meant="a b")
    pack(files, "a")
    files.commit("a b")
    files.close()
    found = filestorage.cut_files(files.paths, floor, aliases={}, over_packs=True)
    (half,) = found.half_commits
    assert half.commit_id == torn and half.missing == ("b",)
